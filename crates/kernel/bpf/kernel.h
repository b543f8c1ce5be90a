// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What tasks.bpf.c reads of the kernel's structures, and no more. Names are the kernel's; offsets
// are the running kernel's, put in when the program is loaded (CO-RE). A name after three
// underscores is another kernel version's shape of the same structure.

#ifndef KERNEL_H
#define KERNEL_H

typedef signed int s32;
typedef unsigned int u32;
typedef signed long long s64;
typedef unsigned long long u64;

#define RELOCATED __attribute__((preserve_access_index))
#define INLINE static inline __attribute__((always_inline))
#define SECTION(name) __attribute__((section(name), used))

// enum bpf_field_info_kind and enum bpf_type_info_kind of the compiler.
#define FIELD_OFFSET(type, field) __builtin_preserve_field_info(((type *)0)->field, 0)
#define HAS_FIELD(pointer, field) __builtin_preserve_field_info((pointer)->field, 2)
#define HAS_TYPE(type) __builtin_preserve_type_info(*(type *)0, 0)
#define SIZE_OF(type) __builtin_preserve_type_info(*(type *)0, 1)

struct ns_common {
	unsigned int inum;
} RELOCATED;

struct mnt_namespace {
	struct ns_common ns;
} RELOCATED;

struct pid_namespace {
	struct ns_common ns;
} RELOCATED;

struct user_namespace {
	struct ns_common ns;
} RELOCATED;

struct net {
	struct ns_common ns;
} RELOCATED;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
} RELOCATED;

struct upid {
	int nr;
	struct pid_namespace *ns;
} RELOCATED;

struct pid {
	unsigned int level;
	struct upid numbers[1];
} RELOCATED;

typedef struct {
	u32 val;
} RELOCATED kuid_t;

typedef struct {
	u32 val;
} RELOCATED kgid_t;

struct cred {
	kuid_t uid;
	kuid_t euid;
	kgid_t egid;
	struct user_namespace *user_ns;
} RELOCATED;

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
} RELOCATED;

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
} RELOCATED;

struct file {
	struct inode *f_inode;
} RELOCATED;

struct percpu_counter {
	s64 count;
	s32 *counters;
} RELOCATED;

struct mm_struct {
	struct percpu_counter rss_stat[4];
	unsigned long total_vm;
	struct file *exe_file;
} RELOCATED;

// Before 6.2.
struct mm_rss_stat {
	struct {
		long counter;
	} count[4];
} RELOCATED;

struct mm_struct___atomic {
	struct mm_rss_stat rss_stat;
} RELOCATED;

struct tty_driver {
	int major;
	int minor_start;
} RELOCATED;

struct tty_struct {
	struct tty_driver *driver;
	int index;
} RELOCATED;

struct task_io_accounting {
	u64 read_bytes;
	u64 write_bytes;
} RELOCATED;

struct prev_cputime {
	u64 utime;
	u64 stime;
} RELOCATED;

struct signal_struct {
	int nr_threads;
	struct pid *pids[4];
	struct tty_struct *tty;
	u64 utime;
	u64 stime;
	struct prev_cputime prev_cputime;
	unsigned long long sum_sched_runtime;
	struct task_io_accounting ioac;
} RELOCATED;

struct kernfs_node {
	u64 id;
} RELOCATED;

struct cgroup {
	struct kernfs_node *kn;
} RELOCATED;

struct css_set {
	struct cgroup *dfl_cgrp;
} RELOCATED;

struct sched_entity {
	u64 sum_exec_runtime;
} RELOCATED;

struct vtime {
	int state;
} RELOCATED;

struct task_struct {
	unsigned int __state;
	int exit_state;
	unsigned int flags;
	int static_prio;
	int pid;
	int tgid;
	struct sched_entity se;
	struct mm_struct *mm;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	u64 utime;
	u64 stime;
	struct vtime vtime;
	u64 start_boottime;
	struct cred *real_cred;
	char comm[16];
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct task_io_accounting ioac;
	struct css_set *cgroups;
} RELOCATED;

// Before 5.14 `state`, before 5.5 `real_start_time`.
struct task_struct___old {
	volatile long state;
	u64 real_start_time;
} RELOCATED;

// Before 5.11, where maps and programs count as locked memory of the user.
struct bpf_map_memory {
	u32 pages;
} RELOCATED;

struct bpf_map {
	struct bpf_map_memory memory;
} RELOCATED;

// A map as the kernel holds it: `pptrs` of one that has a value for each CPU.
struct bpf_array {
	struct bpf_map map;
	void *pptrs[1];
} RELOCATED;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 seq_num;
} RELOCATED;

// The program's context, which is the same on all kernels.
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

// Helpers by their numbers in enum bpf_func_id of include/uapi/linux/bpf.h.
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const bpf_seq_write)(struct seq_file *seq, const void *from, u32 size) = (void *)127;
static long (*const bpf_loop)(u32 times, void *each, void *context, u64 flags) = (void *)181;
static void *(*const bpf_map_lookup_percpu_elem)(void *map, const void *key, u32 cpu) = (void *)195;

#endif

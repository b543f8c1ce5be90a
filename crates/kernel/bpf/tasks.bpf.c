// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Programs of the task iterator (`iter/task`, kernel 5.8). Each writes records that
// src/parse/task_record.rs reads; the order of fields there is the one here. `cargo xtask bpf`
// builds tasks.bpf.o.
//
// A pointer that a task lets go of while it is followed is looked at again afterwards: if it is
// still the same, what was read through it was the task's. Otherwise the record says that it is
// not known.

#include "kernel.h"

// `PF_KTHREAD` of include/linux/sched.h.
#define KERNEL_THREAD 0x00200000
// PID namespaces below the initial one that a record has room for; the kernel allows 32.
#define DEEPEST 7
// `PIDTYPE_SID` of include/linux/pid_types.h.
#define SESSION 3

// What a record tells; each bit goes with fields of it.
#define HAS_MM 0x1u // vsize
#define HAS_NAMESPACES 0x2u
#define HAS_TTY 0x4u
#define HAS_RSS_SUM 0x8u
#define HAS_EXE 0x10u
#define CHANGED 0x20u // something was let go of meanwhile
#define HAS_RSS 0x40u

// How resident pages are counted, if at all.
enum rss { NO_RSS, RSS_COUNT, RSS_SUM };

// Pointers are followed by reads that may fail, and leave zeros then. To follow them directly is
// faster by some nanoseconds each, but the verifier looks through the kernel's whole BTF up to four
// times for each (from 6.2 on), which takes it a millisecond.
#define READ(pointer, field)                                                    \
	({                                                                      \
		typeof((pointer)->field) value;                                 \
		bpf_probe_read_kernel(&value, sizeof(value), &(pointer)->field); \
		value;                                                          \
	})

struct record {
	u32 told;
	u32 pid;
	u64 start; // nanoseconds after boot
	u64 css_set;
	u64 cgroup;
	u64 exe_inode;
	u64 vsize; // pages
	u64 rss; // pages
	u64 rss_sum; // pages
	u32 ppid;
	u32 session;
	u32 state;
	u32 exit_state;
	u32 flags;
	u32 priority;
	u32 threads;
	u32 uid;
	u32 euid;
	u32 egid;
	u32 tty_major;
	u32 tty_minor;
	u32 exe_device;
	u32 exe_magic;
	u32 pid_ns;
	u32 user_ns;
	u32 mnt_ns;
	u32 net_ns;
	char comm[16];
	u32 level;
	u32 inner[DEEPEST]; // as many as `level` says
};

// What a CPU's element of this map is good for is its address: with the map's own pointer it tells
// how far the CPU's area is from what a `__percpu` pointer says. Before 6.2 nothing needs it.
struct {
	int (*type)[6]; // BPF_MAP_TYPE_PERCPU_ARRAY
	int (*max_entries)[1];
	u32 *key;
	u64 *value;
} cpu_areas SECTION(".maps");

// The address that a pointer is, which the verifier takes for a number from here on.
INLINE u64 address(const void *pointer)
{
	const void *volatile kept = pointer;
	u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), (const void *)&kept);
	return number;
}

INLINE s64 positive(s64 number)
{
	return number < 0 ? 0 : number;
}

struct counters {
	u64 area; // the map's `__percpu` pointer
	u64 file;
	u64 anon;
	u64 shmem;
	s64 sum_file;
	s64 sum_anon;
	s64 sum_shmem;
};

INLINE s64 counter_at(u64 where)
{
	s32 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), (const void *)where);
	return number;
}

static long add_cpu(u32 cpu, struct counters *counters)
{
	u32 first = 0;
	void *element = bpf_map_lookup_percpu_elem(&cpu_areas, &first, cpu);
	u64 offset;

	if (!element)
		return 1; // there are no more
	offset = address(element) - counters->area;
	counters->sum_file += counter_at(counters->file + offset);
	counters->sum_anon += counter_at(counters->anon + offset);
	counters->sum_shmem += counter_at(counters->shmem + offset);
	return 0;
}

// percpu_counter_sum of the three counters of resident pages, as get_mm_counter_sum has it.
INLINE u64 rss_sum(struct mm_struct *mm)
{
	u64 pptrs = address(&cpu_areas) + FIELD_OFFSET(struct bpf_array, pptrs);
	struct counters counters = {
		.file = (u64)READ(mm, rss_stat[0].counters),
		.anon = (u64)READ(mm, rss_stat[1].counters),
		.shmem = (u64)READ(mm, rss_stat[3].counters),
		.sum_file = READ(mm, rss_stat[0].count),
		.sum_anon = READ(mm, rss_stat[1].count),
		.sum_shmem = READ(mm, rss_stat[3].count),
	};

	bpf_probe_read_kernel(&counters.area, sizeof(counters.area), (const void *)pptrs);
	bpf_loop(1 << 16, add_cpu, &counters, 0);
	return positive(counters.sum_file) + positive(counters.sum_anon) +
	       positive(counters.sum_shmem);
}

INLINE u64 start_of(struct task_struct *task)
{
	struct task_struct___old *old = (void *)task;

	if (HAS_FIELD(task, start_boottime))
		return READ(task, start_boottime);
	return READ(old, real_start_time);
}

INLINE void put_identity(struct record *r, struct task_struct *task)
{
	struct task_struct___old *old = (void *)task;
	struct task_struct *parent = READ(task, real_parent);
	struct cred *cred = READ(task, real_cred);
	struct user_namespace *user_ns = READ(cred, user_ns);

	r->start = start_of(task);
	r->pid = task->pid;
	r->ppid = READ(parent, tgid);
	if (HAS_FIELD(task, __state))
		r->state = task->__state;
	else
		r->state = old->state;
	r->exit_state = task->exit_state;
	r->flags = task->flags;
	r->priority = task->static_prio;
	bpf_probe_read_kernel(r->comm, sizeof(r->comm), task->comm);
	r->uid = READ(cred, uid.val);
	r->euid = READ(cred, euid.val);
	r->egid = READ(cred, egid.val);
	r->user_ns = READ(user_ns, ns.inum);
}

INLINE void put_signal(struct record *r, struct task_struct *task)
{
	struct signal_struct *signal = READ(task, signal);
	struct pid *session = READ(signal, pids[SESSION]);
	struct tty_struct *tty = READ(signal, tty);

	r->threads = READ(signal, nr_threads);
	r->session = READ(session, numbers[0].nr);
	if (tty) {
		struct tty_driver *driver = READ(tty, driver);

		r->tty_major = READ(driver, major);
		r->tty_minor = READ(driver, minor_start) + READ(tty, index);
		r->told |= HAS_TTY;
	}
	r->told |= READ(signal, tty) != tty ? CHANGED : 0;
}

// The PID in every PID namespace beneath the initial one, outermost first. What lies behind the
// last level is read along, since a loop would cost the verifier more, and left out.
INLINE void put_pids(struct record *r, struct task_struct *task)
{
	struct pid *pid = READ(task, thread_pid);
	u64 size = SIZE_OF(struct upid), numbers = (u64)&pid->numbers[0];
	u32 level = READ(pid, level), n;
	struct {
		u32 nr, padding;
		u64 ns;
	} inner[DEEPEST] = {};
	struct pid_namespace *ns;

	bpf_probe_read_kernel(inner, sizeof(inner), (void *)(numbers + size));
#pragma unroll
	for (n = 0; n < DEEPEST; n++)
		r->inner[n] = inner[n].nr & -(n < level);
	r->level = level;
	ns = READ((struct upid *)(numbers + level * size), ns);
	r->pid_ns = READ(ns, ns.inum);
}

#define INUM(set, field)                               \
	({                                             \
		typeof((set)->field) one = READ(set, field); \
		READ(one, ns.inum);                    \
	})

INLINE void put_namespaces(struct record *r, struct task_struct *task)
{
	struct nsproxy *set = READ(task, nsproxy);

	if (set) {
		r->mnt_ns = INUM(set, mnt_ns);
		r->net_ns = INUM(set, net_ns);
		r->told |= HAS_NAMESPACES;
	}
	r->told |= READ(task, nsproxy) != set ? CHANGED : 0;
}

INLINE void put_cgroup(struct record *r, struct task_struct *task)
{
	struct css_set *css_set = READ(task, cgroups);
	struct cgroup *cgroup = READ(css_set, dfl_cgrp);
	struct kernfs_node *node = READ(cgroup, kn);

	r->css_set = (u64)css_set;
	r->cgroup = READ(node, id);
}

// The file a process runs can be exchanged (PR_SET_MM_EXE_FILE).
INLINE void put_exe(struct record *r, struct mm_struct *mm)
{
	struct file *file = READ(mm, exe_file);

	if (file) {
		struct inode *inode = READ(file, f_inode);
		struct super_block *super = READ(inode, i_sb);

		r->exe_inode = READ(inode, i_ino);
		r->exe_device = READ(super, s_dev);
		r->exe_magic = READ(super, s_magic);
		r->told |= HAS_EXE;
	}
	r->told |= READ(mm, exe_file) != file ? CHANGED : 0;
}

// File, anonymous and shared pages; swapped ones are not resident. A counter may be below zero for
// a moment.
INLINE void put_rss(struct record *r, struct mm_struct *mm, enum rss how)
{
	struct mm_struct___atomic *old = (void *)mm;

	if (HAS_TYPE(struct mm_rss_stat)) {
		r->rss = positive(READ(old, rss_stat.count[0].counter)) +
			 positive(READ(old, rss_stat.count[1].counter)) +
			 positive(READ(old, rss_stat.count[3].counter));
	} else {
		r->rss = positive(READ(mm, rss_stat[0].count)) +
			 positive(READ(mm, rss_stat[1].count)) +
			 positive(READ(mm, rss_stat[3].count));
	}
	r->told |= HAS_RSS;
	if (how == RSS_SUM) {
		r->rss_sum = rss_sum(mm);
		r->told |= HAS_RSS_SUM;
	}
}

INLINE void put_mm(struct record *r, struct task_struct *task, enum rss how)
{
	struct mm_struct *mm = READ(task, mm);

	// A kernel thread may have a borrowed one.
	if (mm && !(r->flags & KERNEL_THREAD)) {
		r->vsize = READ(mm, total_vm);
		put_exe(r, mm);
		if (how != NO_RSS)
			put_rss(r, mm, how);
		r->told |= HAS_MM;
	}
	r->told |= READ(task, mm) != mm ? CHANGED : 0;
}

INLINE int process(struct bpf_iter__task *context, enum rss how)
{
	struct task_struct *task = context->task;
	struct record r;

	if (!task || task->pid != task->tgid)
		return 0;
	__builtin_memset(&r, 0, sizeof(r));
	put_identity(&r, task);
	put_signal(&r, task);
	put_pids(&r, task);
	put_namespaces(&r, task);
	put_cgroup(&r, task);
	put_mm(&r, task, how);
	bpf_seq_write(context->meta->seq, &r, sizeof(r));
	return 0;
}

// One record a process.
SECTION("iter/task") int processes(struct bpf_iter__task *context)
{
	return process(context, NO_RSS);
}

// The same with resident pages.
SECTION("iter/task") int processes_rss(struct bpf_iter__task *context)
{
	return process(context, RSS_COUNT);
}

// The same with their exact number, where it is kept per CPU.
SECTION("iter/task") int processes_rss_sum(struct bpf_iter__task *context)
{
	return process(context, RSS_SUM);
}

#define HAS_IO 0x1u
#define HAS_CPU 0x2u
#define RUNS_UNTIMED 0x4u // its time is not in its counters yet

// One thread's part in what its process used, and what the process's ended threads did.
struct usage {
	u32 pid;
	u32 tgid;
	u32 threads;
	u32 told;
	u64 start; // of the process
	u64 utime;
	u64 stime;
	u64 runtime;
	u64 read_bytes;
	u64 write_bytes;
	u64 ended_utime;
	u64 ended_stime;
	u64 ended_runtime;
	u64 ended_read_bytes;
	u64 ended_write_bytes;
	u64 shown_utime; // what was last shown, which never goes down
	u64 shown_stime;
};

// One record a thread.
SECTION("iter/task") int usages(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct task_struct *leader;
	struct signal_struct *signal;
	struct usage u = {};

	if (!task)
		return 0;
	signal = READ(task, signal);
	leader = READ(task, group_leader);
	u.pid = task->pid;
	u.tgid = task->tgid;
	u.threads = READ(signal, nr_threads);
	u.start = start_of(leader);
	u.utime = task->utime;
	u.stime = task->stime;
	u.runtime = task->se.sum_exec_runtime;
	u.ended_utime = READ(signal, utime);
	u.ended_stime = READ(signal, stime);
	u.ended_runtime = READ(signal, sum_sched_runtime);
	// Both are a matter of the kernel's configuration: CONFIG_TASK_IO_ACCOUNTING, and not
	// CONFIG_VIRT_CPU_ACCOUNTING_NATIVE.
	if (HAS_FIELD(task, ioac.read_bytes)) {
		u.read_bytes = task->ioac.read_bytes;
		u.write_bytes = task->ioac.write_bytes;
		u.ended_read_bytes = READ(signal, ioac.read_bytes);
		u.ended_write_bytes = READ(signal, ioac.write_bytes);
		u.told |= HAS_IO;
	}
	if (HAS_FIELD(signal, prev_cputime.utime)) {
		u.shown_utime = READ(signal, prev_cputime.utime);
		u.shown_stime = READ(signal, prev_cputime.stime);
		u.told |= HAS_CPU;
	}
	// VTIME_SYS and what follows, on a CPU without a timer tick (CONFIG_VIRT_CPU_ACCOUNTING_GEN).
	if (HAS_FIELD(task, vtime.state) && task->vtime.state >= 2)
		u.told |= RUNS_UNTIMED;
	bpf_seq_write(context->meta->seq, &u, sizeof(u));
	return 0;
}

char terms[] SECTION("license") = "Dual MIT/GPL";

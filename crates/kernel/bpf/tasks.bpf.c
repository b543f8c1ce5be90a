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
#define IS_THREAD 0x80u // no process: a new thread, of which only `pid` is told
#define IS_END 0x100u // no process: `start` is the number of tasks that there were

// Numbers that src/scan/bpf/load.rs exchanges for others before the program is loaded.
#define UNTRUSTED 0x5eed0001 // a call of bpf_rdonly_cast (6.2), or nothing
#define TASK_STRUCT 0x5eed0002 // the kernel's BTF id of struct task_struct
#define WITH_RSS 0x5eed0003 // 1 or 0
#define NEWEST 0x5eed0004 // the PID that was given to a task last

// Threads are told of if their ids are among as many after NEWEST.
#define SPAN 4096

// Pointers are followed directly: a read through one that leads nowhere gives zero. The context's
// task is a pointer that the verifier trusts. From 6.2 on it looks through the kernel's whole BTF up
// to four times for each pointer that is read through such a one, which takes it a millisecond. What
// is read through an untrusted pointer is untrusted without a look.
static struct task_struct *(*const untrusted)(struct task_struct *task, u64 type) =
	(void *)UNTRUSTED;

// A number that the verifier knows: it leaves out what depends on another.
#define CONSTANT(number)                                     \
	({                                                   \
		u64 value;                                   \
		asm("%0 = %1" : "=r"(value) : "i"(number)); \
		value;                                       \
	})

// What is before it is read before, and what is after it is read (again) after.
#define IN_ORDER() asm volatile("" ::: "memory")

// Of what the verifier can't follow; zero if it can't be read.
#define READ(pointer, field)                                                     \
	({                                                                       \
		typeof((pointer)->field) value;                                  \
		bpf_probe_read_kernel(&value, sizeof(value), &(pointer)->field); \
		value;                                                           \
	})

// What a task points to. All is read first: the machine then waits for memory once, and not once
// for each.
struct pointers {
	struct signal_struct *signal;
	struct cred *cred;
	struct pid *pid;
	struct nsproxy *set;
	struct css_set *css_set;
	struct mm_struct *mm;
	struct task_struct *parent;
};

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
	u64 comm[2]; // 16 bytes
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
		.file = (u64)mm->rss_stat[0].counters,
		.anon = (u64)mm->rss_stat[1].counters,
		.shmem = (u64)mm->rss_stat[3].counters,
		.sum_file = mm->rss_stat[0].count,
		.sum_anon = mm->rss_stat[1].count,
		.sum_shmem = mm->rss_stat[3].count,
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
		return task->start_boottime;
	return old->real_start_time;
}

INLINE void put_identity(struct record *r, struct task_struct *task, struct pointers *to)
{
	struct task_struct___old *old = (void *)task;

	r->start = start_of(task);
	r->pid = task->pid;
	r->ppid = to->parent->tgid;
	if (HAS_FIELD(task, __state))
		r->state = task->__state;
	else
		r->state = old->state;
	r->exit_state = task->exit_state;
	r->flags = task->flags;
	r->priority = task->static_prio;
	r->comm[0] = *(u64 *)&task->comm[0];
	r->comm[1] = *(u64 *)&task->comm[8];
	r->uid = to->cred->uid.val;
	r->euid = to->cred->euid.val;
	r->egid = to->cred->egid.val;
	r->user_ns = to->cred->user_ns->ns.inum;
}

INLINE void put_signal(struct record *r, struct signal_struct *signal)
{
	struct tty_struct *tty = signal->tty;

	r->threads = signal->nr_threads;
	r->session = signal->pids[SESSION]->numbers[0].nr;
	if (tty) {
		r->tty_major = tty->driver->major;
		r->tty_minor = tty->driver->minor_start + tty->index;
		r->told |= HAS_TTY;
	}
	IN_ORDER();
	r->told |= signal->tty != tty ? CHANGED : 0;
}

// The PID in every PID namespace beneath the initial one, outermost first. The verifier does not
// follow an index into `numbers`, which the kernel declares with one element before 6.6.
INLINE void put_pids(struct record *r, struct pid *pid)
{
	struct numbers {
		u32 nr, padding;
		struct pid_namespace *ns;
	} own;
	u64 level = pid->level, n;

	r->level = level;
	if (level == 0) {
		r->pid_ns = pid->numbers[0].ns->ns.inum;
	} else if (level <= DEEPEST) {
		bpf_probe_read_kernel(&own, sizeof(own), (void *)&pid->numbers[0] + level * sizeof(own));
		r->pid_ns = READ(own.ns, ns.inum);
		r->inner[0] = own.nr;
		if (level > 1) {
			struct numbers inner[DEEPEST] = {};

			bpf_probe_read_kernel(inner, level * sizeof(own),
					      (void *)&pid->numbers[0] + sizeof(own));
#pragma unroll
			for (n = 0; n < DEEPEST; n++)
				r->inner[n] = inner[n].nr;
		}
	}
}

INLINE void put_namespaces(struct record *r, struct task_struct *task, struct nsproxy *set)
{
	if (set) {
		r->mnt_ns = set->mnt_ns->ns.inum;
		r->net_ns = set->net_ns->ns.inum;
		r->told |= HAS_NAMESPACES;
	}
	IN_ORDER();
	r->told |= task->nsproxy != set ? CHANGED : 0;
}

INLINE void put_cgroup(struct record *r, struct css_set *css_set)
{
	r->css_set = (u64)css_set;
	r->cgroup = css_set->dfl_cgrp->kn->id;
}

// File, anonymous and shared pages; swapped ones are not resident. A counter may be below zero for
// a moment.
INLINE void put_rss(struct record *r, struct mm_struct *mm, int is_sum)
{
	struct mm_struct___atomic *old = (void *)mm;

	if (HAS_TYPE(struct mm_rss_stat)) {
		// The verifier does not follow an index into what is no structure by name.
		r->rss = positive(READ(old, rss_stat.count[0].counter)) +
			 positive(READ(old, rss_stat.count[1].counter)) +
			 positive(READ(old, rss_stat.count[3].counter));
	} else {
		r->rss = positive(mm->rss_stat[0].count) + positive(mm->rss_stat[1].count) +
			 positive(mm->rss_stat[3].count);
	}
	r->told |= HAS_RSS;
	if (is_sum) {
		r->rss_sum = rss_sum(mm);
		r->told |= HAS_RSS_SUM;
	}
}

// The file a process runs can be exchanged (PR_SET_MM_EXE_FILE).
INLINE void put_exe(struct record *r, struct mm_struct *mm)
{
	struct file *file = mm->exe_file;

	if (file) {
		struct inode *inode = file->f_inode;

		r->exe_inode = inode->i_ino;
		r->exe_device = inode->i_sb->s_dev;
		r->exe_magic = inode->i_sb->s_magic;
		r->told |= HAS_EXE;
	}
	IN_ORDER();
	r->told |= mm->exe_file != file ? CHANGED : 0;
}

INLINE void put_mm(struct record *r, struct task_struct *task, struct mm_struct *mm, u64 with_rss,
		   int is_sum)
{
	if (mm) {
		IN_ORDER(); // two questions, which the verifier does not follow as one
		// A kernel thread may have a borrowed one.
		if (!(r->flags & KERNEL_THREAD)) {
			r->vsize = mm->total_vm;
			r->told |= HAS_MM;
			put_exe(r, mm);
			if (with_rss)
				put_rss(r, mm, is_sum);
		}
	}
	IN_ORDER();
	r->told |= task->mm != mm ? CHANGED : 0;
}

INLINE int process(struct bpf_iter__task *context, u64 with_rss, int is_sum)
{
	struct task_struct *task = context->task;
	struct pointers to;
	struct record r;

	__builtin_memset(&r, 0, sizeof(r));
	if (!task) {
		r.told = IS_END;
		r.start = context->meta->seq_num + 1;
		goto write;
	}
	if (task->pid != task->tgid) {
		r.told = IS_THREAD;
		r.pid = task->pid;
		if ((u32)(task->pid - CONSTANT(NEWEST) - 1) < SPAN)
			goto write;
		return 0;
	}
	task = untrusted(task, CONSTANT(TASK_STRUCT));
	to.signal = task->signal;
	to.cred = task->real_cred;
	to.pid = task->thread_pid;
	to.set = task->nsproxy;
	to.css_set = task->cgroups;
	to.mm = task->mm;
	to.parent = task->real_parent;
	IN_ORDER();
	put_identity(&r, task, &to);
	put_signal(&r, to.signal);
	put_namespaces(&r, task, to.set);
	put_cgroup(&r, to.css_set);
	put_mm(&r, task, to.mm, with_rss, is_sum);
	put_pids(&r, to.pid);
write:
	bpf_seq_write(context->meta->seq, &r, sizeof(r));
	return 0;
}

// One record a process, with resident pages if they are asked for; and one at the end.
SECTION("iter/task") int processes(struct bpf_iter__task *context)
{
	return process(context, CONSTANT(WITH_RSS), 0);
}

// The same with their exact number, where it is kept per CPU.
SECTION("iter/task") int processes_rss_sum(struct bpf_iter__task *context)
{
	return process(context, 1, 1);
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
	struct signal_struct *signal;
	struct usage u = {};

	if (!task)
		return 0;
	task = untrusted(task, CONSTANT(TASK_STRUCT));
	signal = task->signal;
	u.pid = task->pid;
	u.tgid = task->tgid;
	u.threads = signal->nr_threads;
	u.start = start_of(task->group_leader);
	u.utime = task->utime;
	u.stime = task->stime;
	u.runtime = task->se.sum_exec_runtime;
	u.ended_utime = signal->utime;
	u.ended_stime = signal->stime;
	u.ended_runtime = signal->sum_sched_runtime;
	// Both are a matter of the kernel's configuration: CONFIG_TASK_IO_ACCOUNTING, and not
	// CONFIG_VIRT_CPU_ACCOUNTING_NATIVE.
	if (HAS_FIELD(task, ioac.read_bytes)) {
		u.read_bytes = task->ioac.read_bytes;
		u.write_bytes = task->ioac.write_bytes;
		u.ended_read_bytes = signal->ioac.read_bytes;
		u.ended_write_bytes = signal->ioac.write_bytes;
		u.told |= HAS_IO;
	}
	if (HAS_FIELD(signal, prev_cputime.utime)) {
		u.shown_utime = signal->prev_cputime.utime;
		u.shown_stime = signal->prev_cputime.stime;
		u.told |= HAS_CPU;
	}
	// VTIME_SYS and what follows, on a CPU without a timer tick (CONFIG_VIRT_CPU_ACCOUNTING_GEN).
	if (HAS_FIELD(task, vtime.state) && task->vtime.state >= 2)
		u.told |= RUNS_UNTIMED;
	bpf_seq_write(context->meta->seq, &u, sizeof(u));
	return 0;
}

char terms[] SECTION("license") = "Dual MIT/GPL";

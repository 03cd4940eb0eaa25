// SPDX-License-Identifier: GPL-2.0
/* See helpers.h. */

#include <linux/completion.h>
#include <linux/crc32.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs_struct.h>
#include <linux/highmem.h>
#include <linux/hrtimer.h>
#include <linux/hrtimer_bases.h>
#include <linux/kdev_t.h>
#include <linux/module.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/ipc_namespace.h>
#include <linux/nsproxy.h>
#include <linux/pid_namespace.h>
#include <linux/pipe_fs_i.h>
#include <linux/posix-timers.h>
#include <linux/time_namespace.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <linux/rseq.h>
#include <linux/sched/clock.h>
#include <linux/sched/coredump.h>
#include <linux/sched/exec_state.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/string.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/fpu/xstate.h>
#include <asm/mmu_context.h>

#include "helpers.h"
#include "btf_generated.h"

/* A work that a stopped task keeps is freed by kfree(), which has another type than a work's function (kx/park.rs). */
static_assert(!IS_ENABLED(CONFIG_CFI) && !IS_ENABLED(CONFIG_CFI_CLANG));

struct task_struct *pmig_next_thread(struct task_struct *task)
{
	return __next_thread(task);
}

struct task_struct *pmig_next_process(struct task_struct *task)
{
	return next_task(task);
}

bool pmig_pid_alive(struct task_struct *task)
{
	return pid_alive(task);
}

struct pt_regs *pmig_task_pt_regs(struct task_struct *task)
{
	return task_pt_regs(task);
}

/*
 * The number of the system call that a task that may run has made last, or -1. Only a hint: the task may give up its stack
 * at any time.
 */
long pmig_task_last_call(struct task_struct *task)
{
	unsigned long call;

	if (copy_from_kernel_nofault(&call, &task_pt_regs(task)->orig_ax, sizeof(call)))
		return -1;
	return call;
}

bool pmig_task_on_cpu(struct task_struct *task)
{
	return smp_load_acquire(&task->on_cpu);
}

bool pmig_task_is_stopped(struct task_struct *task)
{
	return task_is_stopped(task);
}

int pmig_task_nice(struct task_struct *task)
{
	return task_nice(task);
}

bool pmig_task_no_new_privs(struct task_struct *task)
{
	return task_no_new_privs(task);
}

bool pmig_task_has_children(struct task_struct *task)
{
	return !list_empty_careful(&task->children);
}

bool pmig_task_is_tracer(struct task_struct *task)
{
	return !list_empty_careful(&task->ptraced);
}

bool pmig_process_may_amx(struct task_struct *leader)
{
	/* What x86_task_fpu() returns, which is not exported in a kernel with CONFIG_X86_DEBUG_FPU. */
	struct fpu *fpu = (struct fpu *)(leader + 1);

	return !(leader->flags & PF_KTHREAD) && READ_ONCE(fpu->perm.__state_perm) & XFEATURE_MASK_XTILE_DATA;
}

bool pmig_restore_sigmask(struct task_struct *task)
{
	return task->restore_sigmask;
}

void pmig_set_restore_sigmask(struct task_struct *task, bool on)
{
	task->restore_sigmask = on;
}

void pmig_task_lock(struct task_struct *task)
{
	task_lock(task);
}

void pmig_task_unlock(struct task_struct *task)
{
	task_unlock(task);
}

void pmig_lock_siglock(struct task_struct *task)
{
	spin_lock_irq(&task->sighand->siglock);
}

void pmig_unlock_siglock(struct task_struct *task)
{
	spin_unlock_irq(&task->sighand->siglock);
}

void pmig_set_notify_signal(void)
{
	set_thread_flag(TIF_NOTIFY_SIGNAL);
}

void pmig_set_sigpending(void)
{
	set_thread_flag(TIF_SIGPENDING);
}

void pmig_rseq_force_update(void)
{
	/* As if a user-mode interrupt had come: the program may have been frozen inside a critical section. */
	current->rseq.event.user_irq = true;
	rseq_force_update();
}

void pmig_reinit_completion(struct completion *completion)
{
	reinit_completion(completion);
}

void pmig_cond_resched(void)
{
	cond_resched();
}

void pmig_module_get(void)
{
	__module_get(THIS_MODULE);
}

void pmig_module_put(void)
{
	module_put(THIS_MODULE);
}

/* The timer after another one, or the first. The caller is in an RCU read-side section. */
struct k_itimer *pmig_next_posix_timer(struct task_struct *task, struct k_itimer *previous)
{
	struct hlist_node *next = previous ? rcu_dereference(hlist_next_rcu(&previous->list)) :
					     rcu_dereference(hlist_first_rcu(&task->signal->posix_timers));

	return hlist_entry_safe(next, struct k_itimer, list);
}

/* The states of k_itimer::it_status, which are private to kernel/time/posix-timers.h. */
enum {
	PMIG_TIMER_DISARMED,
	PMIG_TIMER_ARMED,
	PMIG_TIMER_REQUEUE_PENDING,
};

/* The caller is in an RCU read-side section. */
void pmig_read_posix_timer(struct task_struct *task, struct k_itimer *timer, struct pmig_posix_timer *read)
{
	guard(spinlock_irqsave)(&timer->it_lock);
	*read = (struct pmig_posix_timer){
		.id = timer->it_id,
		.clock = timer->it_clock,
		.base = timer->it_clock,
		.notify = timer->it_sigev_notify,
		.signal = timer->sigq.info.si_signo,
		.value = (unsigned long)timer->sigq.info.si_value.sival_ptr,
		.interval = timer->it_interval,
		.last_overrun = timer->it_overrun_last,
	};
	/* Clocks whose timers are hrtimers: the others keep something else in the union. */
	if (timer->it_clock < 0 || timer->it_clock == CLOCK_REALTIME_ALARM || timer->it_clock == CLOCK_BOOTTIME_ALARM)
		return;
	if (timer->it_pid_type == PIDTYPE_PID)
		read->tid = pid_nr_ns(timer->it_pid, task_active_pid_ns(task));
	/* Set, or expired and its signal still waits: then the time at which it has expired counts. */
	if (timer->it_status != PMIG_TIMER_DISARMED ||
	    (!list_empty(&timer->sigq.list) && timer->it_sigqueue_seq == timer->it_signal_seq)) {
		struct hrtimer *hrtimer = &timer->it.real.timer;

		read->base = hrtimer->base->clockid;
		read->expires = hrtimer_get_expires(hrtimer);
		/* Expirations that were counted since then are counted once more on the other host. */
		if (timer->it_status == PMIG_TIMER_REQUEUE_PENDING && timer->it_overrun >= 0)
			read->expires -= (timer->it_overrun + 1) * timer->it_interval;
		if (read->expires <= 0)
			read->expires = 1;
	}
}

/* Whether there is such a timer. */
bool pmig_set_last_overrun(struct task_struct *task, s32 id, s64 overrun)
{
	struct k_itimer *timer;

	guard(rcu)();
	hlist_for_each_entry_rcu(timer, &task->signal->posix_timers, list) {
		if (timer->it_id != id)
			continue;
		guard(spinlock_irqsave)(&timer->it_lock);
		timer->it_overrun_last = overrun;
		return true;
	}
	return false;
}

bool pmig_timer_active(const struct hrtimer *timer)
{
	return hrtimer_active(timer);
}

s64 pmig_timer_expires(const struct hrtimer *timer)
{
	return hrtimer_get_expires(timer);
}

unsigned long pmig_mm_flags(struct mm_struct *mm)
{
	return __mm_flags_get_word(mm);
}

struct file *pmig_mm_exe_file(struct mm_struct *mm)
{
	struct file *file;

	rcu_read_lock();
	file = get_file_rcu(&mm->exe_file);
	rcu_read_unlock();
	return file;
}

bool pmig_mm_has_ldt(struct mm_struct *mm)
{
	return mm->context.ldt;
}

unsigned long pmig_mm_vdso(struct mm_struct *mm)
{
	return (unsigned long)mm->context.vdso;
}

unsigned int pmig_mm_pkeys(struct mm_struct *mm)
{
	return mm->context.pkey_allocation_map;
}

void pmig_put_page(struct page *page)
{
	put_page(page);
}

bool pmig_page_is_anonymous(struct page *page)
{
	return PageAnon(page);
}

bool pmig_page_is_zero(struct page *page)
{
	void *address = kmap_local_page(page);
	bool zero = !memchr_inv(address, 0, PAGE_SIZE);

	kunmap_local(address);
	return zero;
}

unsigned long pmig_file_count(struct file *file)
{
	return file_count(file);
}

bool pmig_d_unlinked(struct dentry *dentry)
{
	/* Files that the kernel makes without a name (mm/shmem.c) were never linked. */
	return d_unlinked(dentry) || (IS_ROOT(dentry) && d_inode(dentry)->i_nlink == 0);
}

u64 pmig_encode_dev(dev_t device)
{
	return new_encode_dev(device);
}

struct sk_buff *pmig_genlmsg_new(size_t payload)
{
	return genlmsg_new(payload, GFP_KERNEL);
}

void pmig_genlmsg_end(struct sk_buff *skb, void *header)
{
	genlmsg_end(skb, header);
}

int pmig_genlmsg_unicast(struct sk_buff *skb, u32 port)
{
	return genlmsg_unicast(&init_net, skb, port);
}

int pmig_genlmsg_multicast(const struct genl_family *family, struct sk_buff *skb)
{
	return genlmsg_multicast(family, skb, 0, 0, GFP_KERNEL);
}

struct sk_buff *pmig_skb_get(struct sk_buff *skb)
{
	return skb_get(skb);
}

struct sock *pmig_netlink_sock_hold(struct sk_buff *skb)
{
	struct sock *sock = NETLINK_CB(skb).sk;

	sock_hold(sock);
	return sock;
}

void pmig_sock_put(struct sock *sock)
{
	sock_put(sock);
}

const struct genl_info *pmig_genl_info_dump(struct netlink_callback *cb)
{
	return genl_info_dump(cb);
}

bool pmig_file_has_locks(struct file *file, struct files_struct *files)
{
	struct file_lock_context *context = locks_inode_context(file_inode(file));
	struct file_lock_core *lock;
	bool found = false;

	if (!context)
		return false;
	spin_lock(&context->flc_lock);
	list_for_each_entry(lock, &context->flc_posix, flc_list)
		found |= lock->flc_owner == files || lock->flc_owner == file;
	list_for_each_entry(lock, &context->flc_flock, flc_list)
		found |= lock->flc_file == file;
	list_for_each_entry(lock, &context->flc_lease, flc_list)
		found |= lock->flc_file == file;
	spin_unlock(&context->flc_lock);
	return found;
}

unsigned int pmig_task_dumpable(struct task_struct *task)
{
	struct task_exec_state *state;
	unsigned int dumpable = 0;

	rcu_read_lock();
	state = rcu_dereference(task->exec_state);
	if (state)
		dumpable = READ_ONCE(state->dumpable);
	rcu_read_unlock();
	return dumpable;
}

bool pmig_mm_has_aio(struct mm_struct *mm)
{
	return rcu_access_pointer(mm->ioctx_table);
}

int pmig_mm_membarrier(struct mm_struct *mm)
{
	return atomic_read(&mm->membarrier_state);
}

bool pmig_file_has_owner(struct file *file)
{
	struct fown_struct *owner = file_f_owner(file);

	return owner && owner->pid;
}

void *pmig_file_pipe(struct file *file)
{
	return S_ISFIFO(file_inode(file)->i_mode) ? file->private_data : NULL;
}

bool pmig_close_on_exec(struct task_struct *task, unsigned int fd)
{
	struct files_struct *files;
	bool result = false;

	task_lock(task);
	files = task->files;
	if (files) {
		spin_lock(&files->file_lock);
		if (fd < files_fdtable(files)->max_fds)
			result = close_on_exec(fd, files);
		spin_unlock(&files->file_lock);
	}
	task_unlock(task);
	return result;
}

bool pmig_task_working_directory(struct task_struct *task, struct path *path)
{
	bool found;

	task_lock(task);
	found = task->fs;
	if (found)
		get_fs_pwd(task->fs, path);
	task_unlock(task);
	return found;
}

bool pmig_task_root(struct task_struct *task, struct path *path)
{
	bool found;

	task_lock(task);
	found = task->fs;
	if (found)
		get_fs_root(task->fs, path);
	task_unlock(task);
	return found;
}

int pmig_task_umask(struct task_struct *task)
{
	int umask;

	task_lock(task);
	umask = task->fs ? task->fs->umask : 0;
	task_unlock(task);
	return umask;
}

void pmig_consume_skb(struct sk_buff *skb)
{
	consume_skb(skb);
}

void pmig_list_move_tail(struct list_head *entry, struct list_head *head)
{
	list_move_tail(entry, head);
}

void pmig_genlmsg_cancel(struct sk_buff *skb, void *header)
{
	genlmsg_cancel(skb, header);
}

u32 pmig_task_namespace(struct task_struct *task, enum pmig_namespace which)
{
	struct ns_common *ns = NULL;
	struct pid_namespace *active;
	struct nsproxy *proxy;
	u32 inum = 0;

	rcu_read_lock();
	task_lock(task);
	proxy = task->nsproxy;
	active = task_active_pid_ns(task);
	if (which == PMIG_NS_USER)
		ns = &__task_cred(task)->user_ns->ns;
	else if (which == PMIG_NS_PID)
		ns = active ? &active->ns : NULL;
	else if (proxy) {
		switch (which) {
		case PMIG_NS_MNT:
			/* ns is the first member of the structure, which is private to fs/mount.h. */
			ns = (struct ns_common *)proxy->mnt_ns;
			break;
		case PMIG_NS_UTS:
			ns = &proxy->uts_ns->ns;
			break;
		case PMIG_NS_IPC:
			ns = &proxy->ipc_ns->ns;
			break;
		case PMIG_NS_NET:
			ns = &proxy->net_ns->ns;
			break;
		case PMIG_NS_PID_CHILDREN:
			ns = &proxy->pid_ns_for_children->ns;
			break;
		case PMIG_NS_CGROUP:
			ns = &proxy->cgroup_ns->ns;
			break;
		case PMIG_NS_TIME:
			ns = &proxy->time_ns->ns;
			break;
		case PMIG_NS_TIME_CHILDREN:
			ns = &proxy->time_ns_for_children->ns;
			break;
		default:
			break;
		}
	}
	if (ns)
		inum = ns->inum;
	task_unlock(task);
	rcu_read_unlock();
	return inum;
}

s64 pmig_task_monotonic_offset(struct task_struct *task)
{
	s64 offset = 0;

	task_lock(task);
	if (task->nsproxy)
		offset = timespec64_to_ns(&task->nsproxy->time_ns->offsets.monotonic);
	task_unlock(task);
	return offset;
}

s64 pmig_task_boottime_offset(struct task_struct *task)
{
	s64 offset = 0;

	task_lock(task);
	if (task->nsproxy)
		offset = timespec64_to_ns(&task->nsproxy->time_ns->offsets.boottime);
	task_unlock(task);
	return offset;
}

#ifdef CONFIG_SECURITY
/*
 * How much of a credentials' LSM blob is known to have been asked for: it is made by kzalloc() with the sum of what the
 * modules want, in words (security/security.c), and that sum is not exported. What the allocator added is not compared.
 */
static size_t pmig_lsm_blob_size(const void *blob)
{
	static const unsigned short buckets[] = { 128, 96, 64, 32, 16 };
	size_t size = ksize(blob), i;

	for (i = 0; i + 1 < ARRAY_SIZE(buckets); i++)
		if (size >= buckets[i])
			return buckets[i + 1] + sizeof(long);
	return size >= 16 ? 16 : sizeof(long);
}
#endif

bool pmig_task_is_confined(struct task_struct *task)
{
	bool differs = false;
#ifdef CONFIG_SECURITY
	const void *theirs, *ours = current_cred()->security;

	rcu_read_lock();
	theirs = __task_cred(task)->security;
	if (theirs && ours)
		differs = memcmp(theirs, ours, min(pmig_lsm_blob_size(theirs), pmig_lsm_blob_size(ours)));
	else
		differs = theirs != ours;
	rcu_read_unlock();
#endif
	return differs;
}

bool pmig_task_has_numa_policy(struct task_struct *task)
{
#ifdef CONFIG_NUMA
	return READ_ONCE(task->mempolicy);
#else
	return false;
#endif
}

bool pmig_vma_has_numa_policy(const struct vm_area_struct *vma)
{
#ifdef CONFIG_NUMA
	return vma->vm_policy;
#else
	return false;
#endif
}

bool pmig_task_has_perf_events(struct task_struct *task)
{
	return READ_ONCE(task->perf_event_ctxp) || !list_empty_careful(&task->perf_event_list);
}

bool pmig_task_has_ioports(struct task_struct *task)
{
	return task->thread.io_bitmap || task->thread.iopl_emul;
}

bool pmig_task_has_breakpoints(struct task_struct *task)
{
	return memchr_inv(task->thread.ptrace_bps, 0, sizeof(task->thread.ptrace_bps));
}

bool pmig_task_has_shadow_stack(struct task_struct *task)
{
	return task->thread.features;
}

bool pmig_task_has_tls_segments(struct task_struct *task)
{
	return memchr_inv(task->thread.tls_array, 0, sizeof(task->thread.tls_array));
}

bool pmig_task_dispatches_syscalls(struct task_struct *task)
{
	return test_task_syscall_work(task, SYSCALL_USER_DISPATCH);
}

u8 pmig_rseq_version(struct task_struct *task)
{
	return task->rseq.event.has_rseq;
}

void pmig_set_rseq(struct task_struct *task, unsigned long start, u32 length, u32 signature, u8 version)
{
	task->rseq.usrptr = (struct rseq __user *)start;
	task->rseq.len = length;
	task->rseq.sig = signature;
	task->rseq.event.has_rseq = version;
}

s64 pmig_ktime_get_boottime(void)
{
	return ktime_get_boottime();
}

s64 pmig_ktime_get_real(void)
{
	return ktime_get_real();
}

const char *pmig_release(void)
{
	return init_utsname()->release;
}

unsigned int pmig_pipe_files(void *pipe)
{
	return READ_ONCE(((struct pipe_inode_info *)pipe)->files);
}

unsigned int pmig_pipe_slots(void *pipe)
{
	return READ_ONCE(((struct pipe_inode_info *)pipe)->max_usage);
}

u32 pmig_btf_checksum_of_build(void)
{
	return PMIG_BTF_CHECKSUM;
}

u32 pmig_crc32(u32 seed, const void *data, size_t length)
{
	return crc32_le(seed, data, length);
}

void pmig_rseq_ids(struct task_struct *task, u32 *cpu, u32 *node, u32 *concurrency)
{
	*cpu = task->rseq.ids.cpu_id;
	*node = task->rseq.ids.node_id;
	*concurrency = task->rseq.ids.mm_cid;
}

void pmig_set_rseq_ids(struct task_struct *task, u32 cpu, u32 node, u32 concurrency)
{
	task->rseq.ids.cpu_id = cpu;
	task->rseq.ids.node_id = node;
	task->rseq.ids.mm_cid = concurrency;
}

void pmig_set_exit_addresses(unsigned long robust_list, unsigned long clear_child_tid)
{
	current->futex.robust_list = (struct robust_list_head __user *)robust_list;
	current->clear_child_tid = (int __user *)clear_child_tid;
}

bool pmig_module_try_get(void)
{
	return try_module_get(THIS_MODULE);
}

u64 pmig_local_clock(void)
{
	return local_clock();
}

/* struct sem_undo_list, which is private to ipc/sem.c. Every thread that pthread_create() made has one, mostly empty. */
struct pmig_sem_undo_list {
	refcount_t refcnt;
	spinlock_t lock;
	struct list_head list_proc;
};

bool pmig_task_has_sem_undo(struct task_struct *task)
{
	struct pmig_sem_undo_list *list = (void *)READ_ONCE(task->sysvsem.undo_list);
	struct list_head *first;

	/* A task that exits frees its list without a grace period. What is read then does not matter, but must be safe. */
	return list && !copy_from_kernel_nofault(&first, &list->list_proc.next, sizeof(first)) &&
	       first != &list->list_proc;
}

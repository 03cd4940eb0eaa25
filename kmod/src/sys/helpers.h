/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C helpers of the module: one function per inline or macro of the kernel that Rust cannot call, named pmig_<name>.
 * bindgen reads this file too, so each appears in Rust as sys::pmig_<name>.
 */

#ifndef PMIG_HELPERS_H
#define PMIG_HELPERS_H

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <net/genetlink.h>
#include <generated/utsrelease.h>

#define PMIG_UTS_RELEASE UTS_RELEASE

/* Kernel constants that are no plain literals, so that bindgen evaluates them. */
enum pmig_namespace {
	PMIG_NS_MNT,
	PMIG_NS_UTS,
	PMIG_NS_IPC,
	PMIG_NS_NET,
	PMIG_NS_PID,
	PMIG_NS_PID_CHILDREN,
	PMIG_NS_USER,
	PMIG_NS_CGROUP,
	PMIG_NS_TIME,
	PMIG_NS_TIME_CHILDREN,
};

enum pmig_vm {
	PMIG_VM_READ = VM_READ,
	PMIG_VM_WRITE = VM_WRITE,
	PMIG_VM_EXEC = VM_EXEC,
	PMIG_VM_SHARED = VM_SHARED,
	PMIG_VM_MAYREAD = VM_MAYREAD,
	PMIG_VM_MAYWRITE = VM_MAYWRITE,
	PMIG_VM_MAYEXEC = VM_MAYEXEC,
	PMIG_VM_MAYSHARE = VM_MAYSHARE,
	PMIG_VM_GROWSDOWN = VM_GROWSDOWN,
	PMIG_VM_PFNMAP = VM_PFNMAP,
	PMIG_VM_MIXEDMAP = VM_MIXEDMAP,
	PMIG_VM_IO = VM_IO,
	PMIG_VM_LOCKED = VM_LOCKED,
	PMIG_VM_LOCKONFAULT = VM_LOCKONFAULT,
	PMIG_VM_SEQ_READ = VM_SEQ_READ,
	PMIG_VM_RAND_READ = VM_RAND_READ,
	PMIG_VM_DONTCOPY = VM_DONTCOPY,
	PMIG_VM_DONTEXPAND = VM_DONTEXPAND,
	PMIG_VM_ACCOUNT = VM_ACCOUNT,
	PMIG_VM_NORESERVE = VM_NORESERVE,
	PMIG_VM_HUGETLB = VM_HUGETLB,
	PMIG_VM_SYNC = VM_SYNC,
	PMIG_VM_WIPEONFORK = VM_WIPEONFORK,
	PMIG_VM_DONTDUMP = VM_DONTDUMP,
	PMIG_VM_SOFTDIRTY = VM_SOFTDIRTY,
	PMIG_VM_HUGEPAGE = VM_HUGEPAGE,
	PMIG_VM_NOHUGEPAGE = VM_NOHUGEPAGE,
	PMIG_VM_MERGEABLE = VM_MERGEABLE,
	PMIG_VM_UFFD_MISSING = VM_UFFD_MISSING,
	PMIG_VM_UFFD_WP = VM_UFFD_WP,
	PMIG_VM_UFFD_MINOR = VM_UFFD_MINOR,
	PMIG_VM_PKEYS = VM_PKEY_BIT0 | VM_PKEY_BIT1 | VM_PKEY_BIT2 | VM_PKEY_BIT3,
	PMIG_VM_SHADOW_STACK = VM_SHADOW_STACK,
	PMIG_VM_DROPPABLE = VM_DROPPABLE,
	PMIG_VM_SEALED = VM_SEALED,
	PMIG_VM_MAYBE_GUARD = VM_MAYBE_GUARD,
};

struct task_struct *pmig_next_thread(struct task_struct *task);
struct task_struct *pmig_next_process(struct task_struct *task);
bool pmig_pid_alive(struct task_struct *task);
struct pt_regs *pmig_task_pt_regs(struct task_struct *task);
long pmig_task_last_call(struct task_struct *task);
bool pmig_task_on_cpu(struct task_struct *task);
bool pmig_task_is_stopped(struct task_struct *task);
int pmig_task_nice(struct task_struct *task);
bool pmig_task_no_new_privs(struct task_struct *task);
bool pmig_task_has_children(struct task_struct *task);
bool pmig_task_is_tracer(struct task_struct *task);
bool pmig_process_may_amx(struct task_struct *leader);
unsigned int pmig_task_dumpable(struct task_struct *task);
u32 pmig_task_namespace(struct task_struct *task, enum pmig_namespace which);
s64 pmig_task_monotonic_offset(struct task_struct *task);
s64 pmig_task_boottime_offset(struct task_struct *task);
/* Whether a security module treats the task in another way than the current one: by a profile, a label, a domain. */
bool pmig_task_is_confined(struct task_struct *task);
bool pmig_task_has_numa_policy(struct task_struct *task);
bool pmig_vma_has_numa_policy(const struct vm_area_struct *vma);
bool pmig_task_has_perf_events(struct task_struct *task);
bool pmig_task_has_sem_undo(struct task_struct *task);
bool pmig_task_has_ioports(struct task_struct *task);
bool pmig_task_has_breakpoints(struct task_struct *task);
bool pmig_task_has_shadow_stack(struct task_struct *task);
bool pmig_task_has_tls_segments(struct task_struct *task);
bool pmig_task_dispatches_syscalls(struct task_struct *task);
bool pmig_restore_sigmask(struct task_struct *task);
void pmig_set_restore_sigmask(struct task_struct *task, bool on);
void pmig_task_lock(struct task_struct *task);
void pmig_task_unlock(struct task_struct *task);
void pmig_lock_siglock(struct task_struct *task);
void pmig_unlock_siglock(struct task_struct *task);
void pmig_set_notify_signal(void);
void pmig_set_sigpending(void);
void pmig_rseq_force_update(void);
void pmig_rseq_ids(struct task_struct *task, u32 *cpu, u32 *node, u32 *concurrency);
void pmig_set_rseq_ids(struct task_struct *task, u32 cpu, u32 node, u32 concurrency);
void pmig_set_exit_addresses(unsigned long robust_list, unsigned long clear_child_tid);
u8 pmig_rseq_version(struct task_struct *task);
void pmig_set_rseq(struct task_struct *task, unsigned long start, u32 length, u32 signature, u8 version);
void pmig_reinit_completion(struct completion *completion);
void pmig_cond_resched(void);
s64 pmig_ktime_get_boottime(void);
s64 pmig_ktime_get_real(void);
u64 pmig_local_clock(void);
const char *pmig_release(void);
u32 pmig_btf_checksum_of_build(void);
u32 pmig_crc32(u32 seed, const void *data, size_t length);
void pmig_module_get(void);
bool pmig_module_try_get(void);
void pmig_module_put(void);

/* What a POSIX timer is, read under its lock. */
struct pmig_posix_timer {
	s32 id;
	s32 clock;
	s32 base;
	s32 notify;
	s32 signal;
	s32 tid;
	u64 value;
	/* The host's clock; 0 if it is not set. */
	s64 expires;
	s64 interval;
	s64 last_overrun;
};

struct k_itimer *pmig_next_posix_timer(struct task_struct *task, struct k_itimer *previous);
void pmig_read_posix_timer(struct task_struct *task, struct k_itimer *timer, struct pmig_posix_timer *read);
bool pmig_set_last_overrun(struct task_struct *task, s32 id, s64 overrun);
bool pmig_timer_active(const struct hrtimer *timer);
s64 pmig_timer_expires(const struct hrtimer *timer);

unsigned long pmig_mm_flags(struct mm_struct *mm);
struct file *pmig_mm_exe_file(struct mm_struct *mm);
bool pmig_mm_has_ldt(struct mm_struct *mm);
unsigned long pmig_mm_vdso(struct mm_struct *mm);
unsigned int pmig_mm_pkeys(struct mm_struct *mm);
bool pmig_mm_has_aio(struct mm_struct *mm);
int pmig_mm_membarrier(struct mm_struct *mm);

void pmig_put_page(struct page *page);
bool pmig_page_is_anonymous(struct page *page);
bool pmig_page_is_zero(struct page *page);

unsigned long pmig_file_count(struct file *file);
bool pmig_d_unlinked(struct dentry *dentry);
u64 pmig_encode_dev(dev_t device);
bool pmig_file_has_owner(struct file *file);
void *pmig_file_pipe(struct file *file);
unsigned int pmig_pipe_files(void *pipe);
unsigned int pmig_pipe_slots(void *pipe);
bool pmig_close_on_exec(struct task_struct *task, unsigned int fd);
bool pmig_task_working_directory(struct task_struct *task, struct path *path);
bool pmig_task_root(struct task_struct *task, struct path *path);
int pmig_task_umask(struct task_struct *task);
bool pmig_file_has_locks(struct file *file, struct files_struct *files);

struct sk_buff *pmig_genlmsg_new(size_t payload);
void pmig_list_move_tail(struct list_head *entry, struct list_head *head);
void pmig_genlmsg_cancel(struct sk_buff *skb, void *header);
void pmig_genlmsg_end(struct sk_buff *skb, void *header);
int pmig_genlmsg_unicast(struct sk_buff *skb, u32 port);
/* Sends to the first multicast group of the family. */
int pmig_genlmsg_multicast(const struct genl_family *family, struct sk_buff *skb);
struct sk_buff *pmig_skb_get(struct sk_buff *skb);
struct sock *pmig_netlink_sock_hold(struct sk_buff *skb);
void pmig_sock_put(struct sock *sock);
const struct genl_info *pmig_genl_info_dump(struct netlink_callback *cb);
void pmig_consume_skb(struct sk_buff *skb);

#endif

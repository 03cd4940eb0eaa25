// SPDX-License-Identifier: GPL-2.0
/* See helpers.h. */

#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/highmem.h>
#include <linux/hrtimer.h>
#include <linux/kdev_t.h>
#include <linux/module.h>
#include <linux/rseq.h>
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

struct task_struct *pmig_next_thread(struct task_struct *task)
{
	return __next_thread(task);
}

struct task_struct *pmig_next_process(struct task_struct *task)
{
	return next_task(task);
}

struct pt_regs *pmig_task_pt_regs(struct task_struct *task)
{
	return task_pt_regs(task);
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

bool pmig_task_may_amx(struct task_struct *task)
{
	return READ_ONCE(x86_task_fpu(task->group_leader)->perm.__state_perm) & XFEATURE_MASK_XTILE_DATA;
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
	rseq_force_update();
}

void pmig_module_get(void)
{
	__module_get(THIS_MODULE);
}

void pmig_module_put(void)
{
	module_put(THIS_MODULE);
}

bool pmig_timer_active(const struct hrtimer *timer)
{
	return hrtimer_active(timer);
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
	return d_unlinked(dentry);
}

struct inode *pmig_file_inode(struct file *file)
{
	return file_inode(file);
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

int pmig_genlmsg_reply(struct sk_buff *skb, struct genl_info *info)
{
	return genlmsg_reply(skb, info);
}

const struct genl_info *pmig_genl_info_dump(struct netlink_callback *cb)
{
	return genl_info_dump(cb);
}

int pmig_skb_tailroom(const struct sk_buff *skb)
{
	return skb_tailroom(skb);
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

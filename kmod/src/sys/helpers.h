/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C helpers of the module: one function per inline or macro of the kernel that Rust cannot call, named pmig_<name>.
 * bindgen reads this file too, so each appears in Rust as sys::pmig_<name>.
 */

#ifndef PMIG_HELPERS_H
#define PMIG_HELPERS_H

#include <linux/ptrace.h>
#include <linux/sched.h>

struct pt_regs *pmig_task_pt_regs(struct task_struct *task);

#endif

// SPDX-License-Identifier: GPL-2.0
/* One line each; see helpers.h. */

#include <linux/sched/task_stack.h>

#include "helpers.h"

struct pt_regs *pmig_task_pt_regs(struct task_struct *task)
{
	return task_pt_regs(task);
}

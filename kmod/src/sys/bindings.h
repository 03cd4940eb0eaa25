/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads to make the declarations that kernel::bindings lacks. Which of them it keeps is listed in
 * bindgen_parameters beside this file.
 */

#include <linux/fs_struct.h>
#include <linux/regset.h>
#include <linux/user_namespace.h>
#include <net/genetlink.h>

#include "helpers.h"

// SPDX-License-Identifier: GPL-2.0
//! Raw system calls.

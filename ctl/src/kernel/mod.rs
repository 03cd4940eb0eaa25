// SPDX-License-Identifier: GPL-2.0
//! kernel
#![forbid(unsafe_code)]

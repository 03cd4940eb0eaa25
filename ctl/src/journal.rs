// SPDX-License-Identifier: GPL-2.0
//! journal
#![forbid(unsafe_code)]

// SPDX-License-Identifier: GPL-2.0
//! strategy
#![forbid(unsafe_code)]

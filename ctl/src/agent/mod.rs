// SPDX-License-Identifier: GPL-2.0
//! agent
#![forbid(unsafe_code)]

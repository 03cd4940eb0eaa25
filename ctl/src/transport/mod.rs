// SPDX-License-Identifier: GPL-2.0
//! transport
#![forbid(unsafe_code)]

// SPDX-License-Identifier: GPL-2.0
//! Vessels: how the destination agent rebuilds a process.

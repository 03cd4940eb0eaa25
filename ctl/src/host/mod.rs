// SPDX-License-Identifier: GPL-2.0
//! Facts about this host.

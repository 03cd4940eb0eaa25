// SPDX-License-Identifier: GPL-2.0
//! A process as owned values, read from and written to a record stream.

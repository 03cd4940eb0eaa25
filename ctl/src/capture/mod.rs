// SPDX-License-Identifier: GPL-2.0
//! What the source agent reads of a frozen process itself.

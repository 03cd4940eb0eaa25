// SPDX-License-Identifier: GPL-2.0

//! A shell in a guest, on this terminal.

use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Result;
use nix::sys::termios::cfmakeraw;
use nix::sys::termios::tcgetattr;
use nix::sys::termios::tcsetattr;
use nix::sys::termios::SetArg;
use nix::sys::termios::Termios;

use crate::link::Link;
use crate::protocol::Exec;
use crate::protocol::Reply;
use crate::protocol::Request;
use crate::protocol::CHUNK;

/// Opens a shell through the port that is left for one; gives its exit code.
pub fn run(socket: &Path) -> Result<i32> {
    let link = Arc::new(Link::connect(socket)?);
    link.wait_for_boot(1, Instant::now() + Duration::from_secs(10))?;
    let exchange = link.open()?;
    let id = exchange.id();
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
    let exec = Exec {
        argv: vec!["/bin/bash".into(), "-l".into()],
        env: vec![("TERM".into(), terminal)],
        cwd: Some("/root".into()),
        terminal: true,
        ..Exec::default()
    };
    exchange.send(&Request::Exec { id, exec })?;
    let _raw = RawGuard::new();
    let resize = {
        let link = link.clone();
        move || {
            if let Some((rows, columns)) = size() {
                let _ = link.send(&Request::Resize { id, rows, columns });
            }
        }
    };
    resize();
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGWINCH])?;
    thread::spawn(move || signals.forever().for_each(|_| resize()));
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length) = io::stdin().read(&mut buffer) {
            // End of file is Ctrl-D for the other side.
            let data = if length == 0 {
                vec![4]
            } else {
                buffer[..length].to_vec()
            };
            if link.send(&Request::Stdin { id, data }).is_err() || length == 0 {
                return;
            }
        }
    });
    let forever = Instant::now() + Duration::from_secs(365 * 24 * 3600);
    loop {
        match exchange.next(forever)? {
            Reply::Output { data, .. } => {
                io::stdout().write_all(&data)?;
                io::stdout().flush()?;
            }
            Reply::Exited { code, signal, .. } => {
                return Ok(code.or(signal.map(|signal| 128 + signal)).unwrap_or(255))
            }
            Reply::Failed { message, .. } => bail!("{message}"),
            _ => {}
        }
    }
}

fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes a winsize, and `size` is one that lives until it returns.
    let result = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

/// The terminal passes everything on until this is dropped.
struct RawGuard(Option<Termios>);

impl RawGuard {
    fn new() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &raw);
        }
        Self(before)
    }
}

impl Drop for RawGuard {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

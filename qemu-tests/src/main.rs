use qemu_tests::Cluster;
fn main() -> anyhow::Result<()> {
    let mode = if std::env::args().nth(1).as_deref() == Some("systemd") { qemu_tests::Mode::Systemd } else { qemu_tests::Mode::Fast };
    let c = Cluster::builder().guests(2).mode(mode).boot()?;
    println!("boot {:?}", c.boot_time());
    for g in c.guests() {
    println!("{}", g.run("uname -a; hostname; mount; ip a; ls /pmig; ps ax; systemd-analyze; systemctl list-jobs; systemctl --failed")?);
    }
    let t = std::time::Instant::now();
    for _ in 0..10 { c.guest(0).run_ok("true")?; }
    println!("10 runs {:?}", t.elapsed());
    println!("{}", c.guest(0).run("ping -c 2 node2; echo hello > /shared/x")?);
    println!("{}", c.guest(1).run("cat /shared/x")?);
    let t = std::time::Instant::now();
    let data = vec![7u8; 8<<20];
    c.guest(0).put("/tmp/big", &data, 0o644)?;
    println!("put 8M {:?}", t.elapsed());
    let t = std::time::Instant::now();
    assert!(c.guest(0).get("/tmp/big")? == data);
    println!("get 8M {:?}", t.elapsed());
    println!("{}", c.guest(0).dmesg()?);
    println!("{:?}", c.assert_clean_logs());
    let t = std::time::Instant::now();
    c.guest(0).reboot_wait()?;
    println!("reboot {:?}", t.elapsed());
    println!("{}", c.guest(0).run_ok("uptime")?);
    Ok(())
}

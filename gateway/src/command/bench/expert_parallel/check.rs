use std::{
    sync::mpsc::{RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use reprise_engine::{Checked, DeviceKind, check_expert_parallel};

/// Longer than any check, loading a model and compiling kernels included.
const HANGS: Duration = Duration::from_secs(90);

/// One line for each check, as it ends. Whoever hangs is not waited for: the process ends with it.
pub(super) fn run(models: &[String], devices: &[DeviceKind]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (mut all, mut wrong) = (0, 0);
    for model in models {
        let (tell, told) = sync_channel(16);
        let checking = std::thread::Builder::new().name("check".to_owned()).spawn({
            let (model, devices) = (model.clone(), devices.to_vec());
            move || check_expert_parallel(&model, &devices, &tell)
        })?;
        loop {
            match told.recv_timeout(HANGS) {
                Ok(checked) => {
                    all += 1;
                    wrong += usize::from(checked.wrong.is_some());
                    print(&checked);
                }
                Err(RecvTimeoutError::Timeout) => {
                    println!("HANG {model}: no check has ended for {HANGS:?}");
                    anyhow::bail!("a check hangs");
                }
                // It has ended.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        match checking.join() {
            Ok(outcome) => outcome?,
            Err(_) => anyhow::bail!("the checks of {model} panicked"),
        }
    }
    println!("{all} checks, {wrong} wrong, {:.1} s", begun.elapsed().as_secs_f64());
    anyhow::ensure!(wrong == 0, "{wrong} checks are wrong");
    Ok(())
}

fn print(checked: &Checked) {
    let Checked { name, wrong, seconds, seen } = checked;
    match wrong {
        None => println!("ok    {name}: {seen}, {seconds:.2} s"),
        Some(wrong) => println!("WRONG {name}: {wrong}; {seen}, {seconds:.2} s"),
    }
}

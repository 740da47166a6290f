use crate::cli::Report;

pub fn run(args: &Report) -> anyhow::Result<u8> {
    let written = reprise_replay::report::write(&args.dirs, &args.out, &args.title)?;
    for path in [&written.html, &written.rows_csv, &written.summary_csv, &written.summary_md] {
        println!("{}", path.display());
    }
    Ok(0)
}

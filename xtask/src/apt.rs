//! Packages of Debian and its derivatives, and the mirror that this machine uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{as_root, execute, step};

/// Installs packages without starting `units`, the services in them. Tests start their own servers, and the user
/// may not want one on its default port.
pub(crate) fn install(packages: &[&str], units: &[&str]) -> Result<()> {
    if execute(as_root("apt-get")?.args(["update", "-q"])).is_err() {
        step("some package lists could not be updated: using the existing ones");
    }
    // Packages start services through systemd, which skips masked ones, or through init scripts, which start
    // nothing in runlevel 1.
    let systemd = !units.is_empty() && Path::new("/run/systemd/system").is_dir();
    if systemd {
        execute(as_root("systemctl")?.args(["mask", "--runtime"]).args(units))?;
    }
    let mut apt = as_root("env")?;
    apt.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "install", "-q", "-y"]);
    let installed = execute(apt.arg("--no-install-recommends").args(packages));
    if systemd {
        execute(as_root("systemctl")?.args(["unmask", "--runtime"]).args(units))?;
    }
    installed?;
    if systemd {
        execute(as_root("systemctl")?.arg("disable").args(units))?;
    }
    Ok(())
}

/// Unpacks packages of another Debian release into a folder, without their dependencies. It does not change this
/// machine's package lists, packages and settings, and needs no root.
pub(crate) fn unpack(packages: &[&str], release: &str, into: &Path) -> Result<()> {
    /// Part of every Debian. It has the keys of the next release, too.
    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let mirror = debian_mirror()?;
    let scratch = tempfile::tempdir().context("cannot create a folder for packages")?;
    let scratch = scratch.path();
    let sources = scratch.join("sources.list");
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {release} main\n"))
        .context("cannot write a list of sources")?;
    fs::write(scratch.join("status"), "").context("cannot write an empty package status")?;
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(scratch.join(folder)).context("cannot create a folder for packages")?;
    }
    let option = |name: &str, value: &str| format!("-o{name}={value}");
    let path = |name: &str| scratch.join(name).display().to_string();
    let apt_get = || {
        let mut apt_get = Command::new("apt-get");
        apt_get.current_dir(scratch).arg("-q").args([
            option("Dir::Etc::SourceList", &path("sources.list")),
            option("Dir::Etc::SourceParts", "-"),
            option("Dir::State::Lists", &path("lists")),
            // Otherwise apt would look for the installed version, which may be from another source.
            option("Dir::State::Status", &path("status")),
            option("Dir::Cache", &path("cache")),
            // apt's download user has no access to the folder.
            option("APT::Sandbox::User", "root"),
            option("Acquire::Languages", "none"),
        ]);
        apt_get
    };
    execute(apt_get().arg("update"))?;
    execute(apt_get().arg("download").args(packages))?;
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let mut unpacked = 0;
    for entry in fs::read_dir(scratch).context("cannot read a folder of packages")? {
        let file = entry.context("cannot read a folder of packages")?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            execute(Command::new("dpkg").arg("-x").arg(file).arg(into))?;
            unpacked += 1;
        }
    }
    ensure!(
        unpacked == packages.len(),
        "apt-get downloaded {unpacked} of the packages {packages:?}"
    );
    Ok(())
}

/// Returns the mirror that this Debian uses for its own release.
pub(crate) fn debian_mirror() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"')
    };
    if field("ID") != "debian" {
        bail!(
            "packages of another Debian release can only be unpacked on Debian, this is `{}`",
            field("ID")
        );
    }
    let codename = field("VERSION_CODENAME");
    for file in source_files()? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let mirror = if file.extension().is_some_and(|extension| extension == "sources") {
            mirror_in_stanzas(&text, codename)
        } else {
            mirror_in_lines(&text, codename)
        };
        if let Some(mirror) = mirror {
            return first_mirror(mirror);
        }
    }
    bail!("apt's sources name no mirror of {codename}")
}

/// Returns the first mirror of a list. In cloud images, apt's sources name a file with mirrors.
fn first_mirror(mirror: &str) -> Result<String> {
    let Some(file) = mirror.strip_prefix("mirror+file:") else { return Ok(mirror.to_owned()) };
    let list = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let first = list.split_whitespace().next();
    first.map(str::to_owned).with_context(|| format!("{file} names no mirror"))
}

/// Returns the files with apt's sources.
fn source_files() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.retain(|file| file.is_file());
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in entries {
            let file = entry?.path();
            let extension = file.extension().unwrap_or_default();
            if extension == "list" || extension == "sources" {
                files.push(file);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Finds `deb [options] MIRROR SUITE main`.
fn mirror_in_lines<'a>(text: &'a str, codename: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let mirror = words.next()?;
        (words.next()? == codename && words.any(|word| word == "main")).then_some(mirror)
    })
}

/// Finds a stanza with `Types: deb`, `URIs: MIRROR`, `Suites: SUITE` and `Components: main`.
fn mirror_in_stanzas<'a>(text: &'a str, codename: &str) -> Option<&'a str> {
    let stanzas = text.split("\n\n");
    stanzas
        .filter(|stanza| !words(stanza, "Enabled").any(|word| word == "no"))
        .filter(|stanza| words(stanza, "Types").any(|word| word == "deb"))
        .filter(|stanza| words(stanza, "Suites").any(|word| word == codename))
        .filter(|stanza| words(stanza, "Components").any(|word| word == "main"))
        .find_map(|stanza| words(stanza, "URIs").next())
}

/// Returns the words of a field of a stanza, including its indented continuation lines.
fn words<'a>(stanza: &'a str, field: &str) -> impl Iterator<Item = &'a str> {
    let mut lines = stanza.lines().filter(|line| !line.starts_with('#'));
    let first = lines.by_ref().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(field).then_some(value)
    });
    let more = first.is_some().then(|| lines.take_while(|line| line.starts_with([' ', '\t'])));
    first.into_iter().chain(more.into_iter().flatten()).flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_found_in_lines() {
        let text = "\
# deb http://old.example/debian bookworm main
deb-src http://src.example/debian bookworm main
deb http://security.example/debian bookworm-security main
deb http://other.example/tools bookworm extra
deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://mirror.example/debian bookworm main
";
        assert_eq!(mirror_in_lines(text, "bookworm"), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in_lines(text, "trixie"), None);
    }

    #[test]
    fn mirror_is_found_in_stanzas() {
        let text = "\
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
# a comment
URIs: http://mirror.example/debian
 http://second.example/debian
Suites: bookworm-updates
 bookworm
Components: main
";
        assert_eq!(mirror_in_stanzas(text, "bookworm"), Some("http://mirror.example/debian"));
        assert_eq!(
            mirror_in_stanzas(text, "bookworm-updates"),
            Some("http://mirror.example/debian")
        );
        assert_eq!(mirror_in_stanzas(text, "trixie"), None);
    }
}

//! Compiles the protos, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let protos = protox::compile(["user.proto"], ["proto"])?;
    tonic_prost_build::configure().build_transport(false).compile_fds(protos)?;
    Ok(())
}

//! Says to the sources whose locks they use.

fn main() {
    println!("cargo:rustc-cfg=shuttle");
}

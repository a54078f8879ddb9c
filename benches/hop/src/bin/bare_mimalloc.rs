//! `bare` built the way Forge is: with mimalloc. Tells how much of a difference is the allocator's.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "bare.rs"]
mod bare;

fn main() -> anyhow::Result<()> {
    bare::main()
}

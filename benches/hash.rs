//! GiB/s of one core for each kernel of SHA-1 and SHA-256, for the numbers and shapes of messages that downloads
//! and hash checks bring: `cargo bench --bench hash -- [KERNEL]...`.
//!
//! SHA-256 takes blocks of 16 KiB, end to end or each in a piece of its own of 1 MiB, in its middle or `apart`.
//!
//! `contiguous` are pieces in one buffer, end to end, as a hash check reads them; `16 KiB` are pieces
//! of blocks in buffers of their own, as a download brings them; `streamed` goes through `MultiSha1`
//! in chunks of 256 KiB, as huge pieces are checked. The figure is the best of some runs, by the
//! processor time of the thread: what else the machine does counts only by what it takes from the caches.

use btget::internals::hash::{
    Kernel, Kernels, LANES, MultiSha1, kernel_names, sha1_many_with, sha256_many_with,
};
use std::hint::black_box;
use std::time::Duration;

const COUNTS: [usize; 9] = [1, 2, 3, 4, 6, 8, 9, 12, 16];
const PIECES: [usize; 3] = [256 << 10, 1 << 20, 4 << 20];
const BLOCK: usize = 16 << 10;
const CHUNK: usize = 256 << 10;

fn main() {
    // cargo passes `--bench`, but not when it runs this among the tests.
    let (flags, wanted): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.starts_with('-'));
    if !flags.iter().any(|flag| flag == "--bench") {
        return println!("nothing measured: run `cargo bench --bench hash`");
    }
    let mut data = vec![0u8; LANES * PIECES[PIECES.len() - 1]];
    data.iter_mut()
        .zip(0u64..)
        .for_each(|(byte, i)| *byte = (i.wrapping_mul(0x9e3779b97f4a7c15) >> 56) as u8);

    println!("SHA-1, GiB/s on one core, by number of messages\n");
    print!("{:<8}{:>8} {:<11}", "kernel", "piece", "shape");
    COUNTS.iter().for_each(|count| print!("{count:>7}"));
    println!();
    let alone = kernel_names()
        .into_iter()
        .filter_map(|name| Some((name, Kernel::from_name(name).and_then(Kernels::only)?)));
    let kernels: Vec<(&str, Kernels)> = [("auto", Kernels::detect())]
        .into_iter()
        .chain(alone)
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name))
        .collect();
    for &(name, kernels) in &kernels {
        for piece in PIECES {
            for (shape, measure) in SHAPES {
                print!("{name:<8}{:>4} KiB {shape:<11}", piece >> 10);
                COUNTS.iter().for_each(|&count| print!("{:>7.2}", measure(kernels, &data, piece, count)));
                println!();
            }
        }
    }
    sha256_blocks(&kernels, &data);
}

/// SHA-256 of blocks as BEP 52 has them.
fn sha256_blocks(kernels: &[(&str, Kernels)], data: &[u8]) {
    println!("\nSHA-256 of 16 KiB blocks, GiB/s on one core, by number of blocks\n");
    for (name, kernels) in kernels {
        for (shape, stride) in [("contiguous", BLOCK), ("apart", BLOCK + 192), ("side", 1 << 20)] {
            print!("{name:<8}{:>4} KiB {shape:<11}", BLOCK >> 10);
            for count in COUNTS {
                let blocks: Vec<[&[u8]; 1]> =
                    data.chunks(stride).take(count).map(|part| [&part[..BLOCK]]).collect();
                let messages: Vec<&[&[u8]]> = blocks.iter().map(|block| &block[..]).collect();
                let run = || drop(black_box(sha256_many_with(*kernels, black_box(&messages))));
                print!("{:>7.2}", rate(count * BLOCK, run));
            }
            println!();
        }
    }
}

type Measure = fn(Kernels, &[u8], usize, usize) -> f64;
const SHAPES: [(&str, Measure); 4] =
    [("contiguous", contiguous), ("apart", apart), ("16 KiB", segmented), ("streamed", streamed)];

fn contiguous(kernels: Kernels, data: &[u8], piece: usize, count: usize) -> f64 {
    many(kernels, &data.chunks(piece).take(count).map(|piece| vec![piece]).collect::<Vec<_>>())
}

/// As contiguous, but no two at the same offset in a page.
fn apart(kernels: Kernels, data: &[u8], piece: usize, count: usize) -> f64 {
    let pieces = data.chunks(piece).take(count).enumerate();
    many(kernels, &pieces.map(|(i, p)| vec![&p[i * 192..p.len() - 4096 + i * 192]]).collect::<Vec<_>>())
}

fn segmented(kernels: Kernels, data: &[u8], piece: usize, count: usize) -> f64 {
    // Blocks of the pieces take turns, as when the pieces are downloaded at the same time.
    let blocks: Vec<&[u8]> = data[..piece * count].chunks(BLOCK).collect();
    many(
        kernels,
        &(0..count).map(|i| blocks.iter().copied().skip(i).step_by(count).collect()).collect::<Vec<_>>(),
    )
}

fn many(kernels: Kernels, messages: &[Vec<&[u8]>]) -> f64 {
    let segments: Vec<&[&[u8]]> = messages.iter().map(Vec::as_slice).collect();
    let bytes = messages.iter().flatten().map(|segment| segment.len()).sum();
    rate(bytes, || drop(black_box(sha1_many_with(kernels, black_box(&segments)))))
}

fn streamed(kernels: Kernels, data: &[u8], piece: usize, count: usize) -> f64 {
    // The chunks lie where the last ones lay, as in a buffer that is read into again and again.
    let chunks: Vec<&[u8]> = data.chunks(CHUNK).take(count).collect();
    rate(piece * count, || {
        let mut hashes = MultiSha1::new_with(kernels, count);
        (0..piece / CHUNK).for_each(|_| hashes.update(black_box(&chunks)));
        black_box(hashes.finish());
    })
}

/// GiB/s of the best of the runs that fit in a moment.
fn rate(bytes: usize, mut run: impl FnMut()) -> f64 {
    run();
    let (start, mut best) = (cpu_time(), Duration::MAX);
    while cpu_time() - start < Duration::from_millis(60) {
        let before = cpu_time();
        run();
        best = best.min(cpu_time() - before);
    }
    bytes as f64 / best.as_secs_f64() / f64::from(1 << 30)
}

/// What this thread has used so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

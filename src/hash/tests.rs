use super::*;
use proptest::prelude::*;

/// Every kernel that this processor has, alone, and all of them together.
fn all_kernels() -> impl Iterator<Item = Kernels> {
    let alone = |kernel| Kernels::only(kernel).expect("it is available");
    Kernel::available().into_iter().map(alone).chain([Kernels::detect()])
}

/// Bytes without a pattern that a mix-up of lanes or words could hide behind.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

fn assert_right(kernels: Kernels, messages: &[Vec<&[u8]>]) {
    let segments: Vec<&[&[u8]]> = messages.iter().map(Vec::as_slice).collect();
    let whole: Vec<Vec<u8>> = messages.iter().map(|message| message.concat()).collect();
    let lengths: Vec<usize> = whole.iter().map(Vec::len).collect();
    let expected: Vec<Sha1> = whole.iter().map(|message| sha1(message)).collect();
    assert_eq!(sha1_many_with(kernels, &segments), expected, "{kernels:?} on lengths {lengths:?}");
    let expected: Vec<Sha256> = whole.iter().map(|message| sha256(message)).collect();
    assert_eq!(sha256_many_with(kernels, &segments), expected, "{kernels:?} on lengths {lengths:?}");
}

#[test]
fn known_digests_are_right() {
    // FIPS 180-4's examples, and the empty message.
    let abc = Sha1(*b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d");
    let empty = Sha1(*b"\xda\x39\xa3\xee\x5e\x6b\x4b\x0d\x32\x55\xbf\xef\x95\x60\x18\x90\xaf\xd8\x07\x09");
    assert_eq!(sha1(b"abc"), abc);
    for kernels in all_kernels() {
        assert_eq!(sha1_many_with(kernels, &[&[b"abc"], &[], &[b"", b"a", b"", b"bc"]]), [abc, empty, abc]);
        assert_eq!(sha1_many_with(kernels, &[]), [Sha1([0; 20]); 0]);
        assert_eq!(MultiSha1::new_with(kernels, 2).finish(), [empty, empty]);
    }
}

#[test]
fn known_digests_of_sha_256_are_right() {
    let hex = |text: &str| {
        let mut digest = Sha256([0; 32]);
        read_hex(text, &mut digest.0).map(|()| digest).unwrap()
    };
    // FIPS 180-4's examples, and the empty message.
    let abc = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let empty = hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(sha256(b"abc"), abc);
    for kernels in all_kernels() {
        assert_eq!(sha256_many_with(kernels, &[&[b"abc"], &[], &[b"", b"a", b"", b"bc"]]), [abc, empty, abc]);
        assert_eq!(sha256_many_with(kernels, &[]), [Sha256([0; 32]); 0]);
    }
}

#[test]
fn every_kernel_is_right_at_all_lengths_around_block_borders() {
    let data = noise(16 * 1100, 1);
    let borders = [320, 512, 1024].into_iter().flat_map(|border| border - 10..=border + 10);
    for length in (0..=260).chain(borders) {
        for kernels in all_kernels() {
            let messages: Vec<_> = data.chunks(1100).map(|chunk| vec![&chunk[..length]]).collect();
            assert_right(kernels, &messages);
        }
    }
}

#[test]
fn every_kernel_is_right_for_all_numbers_of_messages() {
    let data = noise(33 * 400, 2);
    for count in 1..=33 {
        for kernels in all_kernels() {
            let equal: Vec<_> = data.chunks(400).take(count).map(|chunk| vec![chunk]).collect();
            assert_right(kernels, &equal);
            let unequal: Vec<_> = equal.iter().enumerate().map(|(i, m)| vec![&m[0][i * 7..]]).collect();
            assert_right(kernels, &unequal);
        }
    }
}

#[test]
fn a_short_last_piece_and_16_kib_segments_are_right() {
    let data = noise(15 * 65_536 + 20_001, 3);
    let messages: Vec<Vec<&[u8]>> = data.chunks(65_536).map(|piece| piece.chunks(16_384).collect()).collect();
    assert_eq!(messages.len(), 16);
    for kernels in all_kernels() {
        assert_right(kernels, &messages);
    }
}

#[test]
fn a_kernel_that_is_forced_is_the_one_that_is_used() {
    for kernel in Kernel::available() {
        let kernels = Kernels::only(kernel).expect("it is available");
        assert!((1..=LANES).all(|messages| Sha1::best_for(kernels, messages) == kernel));
        assert!((1..=LANES).all(|messages| Sha256::best_for(kernels, messages) == kernel));
        assert_eq!(Kernel::from_name(kernel.name()), Some(kernel));
        assert!(kernel_names().contains(&kernel.name()));
    }
    assert_eq!(Kernel::from_name("sse9"), None);
    assert_eq!(Kernel::available().last(), Some(&Kernel::Plain));
}

#[test]
fn the_environment_picks_the_kernel() {
    // It is read once in a process, so each choice needs one of its own: this test, run again.
    if let Ok(name) = std::env::var("BTGET_HASH_KERNEL") {
        let expected = Kernel::from_name(&name).and_then(Kernels::only).unwrap_or_else(Kernels::detect);
        assert_eq!(Kernels::chosen(), expected);
        assert_eq!(sha1_many(&[&[b"abc"]]), [sha1(b"abc")]);
        assert_eq!(sha256_many(&[&[b"abc"]]), [sha256(b"abc")]);
        return;
    }
    for name in kernel_names().into_iter().chain(["", "sse9"]) {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hash::tests::the_environment_picks_the_kernel"])
            .env("BTGET_HASH_KERNEL", name)
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "BTGET_HASH_KERNEL={name}: {stdout}");
    }
}

#[test]
#[should_panic = "3 chunks for 2 lanes"]
fn more_chunks_than_lanes_are_refused() {
    MultiSha1::new(2).update(&[b"", b"", b""]);
}

/// Messages as the lengths of their segments; short ones, and ones that span some blocks.
fn shapes() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let segment = prop_oneof![0usize..4, 0usize..200, Just(64), Just(128), 1000usize..1500];
    prop::collection::vec(prop::collection::vec(segment, 0..8), 0..40)
}

/// The segments of each message, cut from `data` at varied alignments.
fn cut<'a>(data: &'a [u8], shapes: &[Vec<usize>]) -> Vec<Vec<&'a [u8]>> {
    let mut starts = (0..).map(|i| i * 37 % 4096);
    let mut segment = |length: &usize| {
        let start = starts.next().expect("endless");
        &data[start..start + length]
    };
    shapes.iter().map(|lengths| lengths.iter().map(&mut segment).collect()).collect()
}

proptest! {
    #[test]
    fn any_segmentation_of_any_messages_is_right(shapes in shapes(), seed: u64) {
        let data = noise(8192, seed);
        for kernels in all_kernels() {
            assert_right(kernels, &cut(&data, &shapes));
        }
    }

    #[test]
    fn any_chunks_in_any_number_of_lanes_are_right(shapes in shapes(), seed: u64) {
        let data = noise(8192, seed);
        let messages = cut(&data, &shapes);
        let expected: Vec<Sha1> = messages.iter().map(|message| sha1(&message.concat())).collect();
        for kernels in all_kernels() {
            let mut hashes = MultiSha1::new_with(kernels, messages.len());
            for turn in 0..8 {
                let chunks: Vec<&[u8]> =
                    messages.iter().map(|message| message.get(turn).copied().unwrap_or_default()).collect();
                hashes.update(&chunks);
            }
            prop_assert_eq!(hashes.finish(), expected.clone());
        }
    }
}

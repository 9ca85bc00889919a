//! Kernels that do nothing but read: they fold all words into one by exclusive or.
//!
//! Several streams a thread keep more cache lines in flight on normal pages, where the hardware's
//! own prefetcher stops at each page's end; on huge pages one stream with software prefetch wins.
//! Each variant is offered, and the best counts.

/// Folds all words into one.
pub type ReadKernel = fn(&[u64]) -> u64;

/// Words in one cache line of 64 bytes.
const LINE: usize = 8;

/// How far ahead to prefetch, in words: 1 KiB.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 128;

/// Every variant that this processor can run.
pub fn kernels() -> Vec<ReadKernel> {
    let mut kernels: Vec<ReadKernel> = vec![portable::<1>, portable::<8>];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            kernels.extend([avx512::<1> as ReadKernel, avx512::<4>, avx512::<8>]);
        } else if is_x86_feature_detected!("avx2") {
            kernels.extend([avx2::<1> as ReadKernel, avx2::<4>, avx2::<8>]);
        }
    }
    kernels
}

/// The words in `STREAMS` equal parts of whole lines, and the words that are left.
fn parts<const STREAMS: usize>(words: &[u64]) -> ([&[u64]; STREAMS], &[u64]) {
    let len = words.len() / STREAMS / LINE * LINE;
    let (whole, rest) = words.split_at(len * STREAMS);
    (std::array::from_fn(|stream| &whole[stream * len..][..len]), rest)
}

fn fold(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, word| all ^ word)
}

fn portable<const STREAMS: usize>(words: &[u64]) -> u64 {
    let (streams, rest) = parts::<STREAMS>(words);
    let mut sums = [[0_u64; LINE]; STREAMS];
    for at in (0..streams[0].len()).step_by(LINE) {
        for (sum, stream) in sums.iter_mut().zip(streams) {
            for (lane, word) in sum.iter_mut().zip(&stream[at..at + LINE]) {
                *lane ^= word;
            }
        }
    }
    fold(sums.as_flattened()) ^ fold(rest)
}

#[cfg(target_arch = "x86_64")]
fn avx512<const STREAMS: usize>(words: &[u64]) -> u64 {
    assert!(is_x86_feature_detected!("avx512f"), "chosen only where it is there");
    // SAFETY: the instructions have just been found to exist.
    unsafe { avx512_unchecked::<STREAMS>(words) }
}

/// # Safety
/// The processor must have AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_unchecked<const STREAMS: usize>(words: &[u64]) -> u64 {
    use std::arch::x86_64::*;
    let (streams, rest) = parts::<STREAMS>(words);
    let mut sums = [_mm512_setzero_si512(); STREAMS];
    for at in (0..streams[0].len()).step_by(LINE) {
        for (sum, stream) in sums.iter_mut().zip(streams) {
            let line = stream.as_ptr().wrapping_add(at);
            _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(AHEAD).cast());
            // SAFETY: `at` is a multiple of a line below the length, which is one too, so a whole
            // line of 64 bytes follows it. The prefetch above may point behind the end: it reads
            // nothing that a program could see.
            let values = unsafe { _mm512_loadu_si512(line.cast()) };
            *sum = _mm512_xor_si512(*sum, values);
        }
    }
    let mut lanes = [0_u64; LINE];
    let mut all = fold(rest);
    for sum in sums {
        // SAFETY: the array holds exactly one vector of 64 bytes.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), sum) };
        all ^= fold(&lanes);
    }
    all
}

#[cfg(target_arch = "x86_64")]
fn avx2<const STREAMS: usize>(words: &[u64]) -> u64 {
    assert!(is_x86_feature_detected!("avx2"), "chosen only where it is there");
    // SAFETY: the instructions have just been found to exist.
    unsafe { avx2_unchecked::<STREAMS>(words) }
}

/// # Safety
/// The processor must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2_unchecked<const STREAMS: usize>(words: &[u64]) -> u64 {
    use std::arch::x86_64::*;
    let (streams, rest) = parts::<STREAMS>(words);
    let mut sums = [_mm256_setzero_si256(); STREAMS];
    for at in (0..streams[0].len()).step_by(LINE) {
        for (sum, stream) in sums.iter_mut().zip(streams) {
            let line = stream.as_ptr().wrapping_add(at);
            _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(AHEAD).cast());
            // SAFETY: as in the AVX-512 kernel, a whole line of two vectors follows.
            let (low, high) = unsafe {
                (_mm256_loadu_si256(line.cast()), _mm256_loadu_si256(line.add(LINE / 2).cast()))
            };
            *sum = _mm256_xor_si256(*sum, _mm256_xor_si256(low, high));
        }
    }
    let mut lanes = [0_u64; LINE / 2];
    let mut all = fold(rest);
    for sum in sums {
        // SAFETY: the array holds exactly one vector of 32 bytes.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
        all ^= fold(&lanes);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that skipped a word, or read one twice, would give another result.
    #[test]
    fn every_kernel_reads_every_word_once() {
        let mut kernels = kernels();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            kernels.extend([avx2::<1> as ReadKernel, avx2::<4>, avx2::<8>]);
        }
        for len in [0, 1, 7, 8, 63, 64, 65, 511, 1000] {
            let words: Vec<u64> = (1..=len).map(|it: u64| it.wrapping_mul(0x9E37_79B9)).collect();
            for (index, kernel) in kernels.iter().enumerate() {
                assert_eq!(kernel(&words), fold(&words), "kernel {index}, {len} words");
            }
        }
    }
}

//! Kernels that do nothing but multiply and add float32 numbers in registers.

/// A kernel and what one of its rounds counts for.
pub struct FmaKernel {
    /// Runs so many rounds and returns what keeps them from being optimised away.
    pub run: fn(usize) -> f32,
    /// Multiplications and additions of one round.
    pub operations_each_round: usize,
}

/// Independent sums in flight: a multiply-add takes four cycles and two start in each, so eight
/// would do; sixteen leave room for processors with longer pipelines.
const SUMS: usize = 16;

/// AVX2 has sixteen registers, of which the factors take two.
#[cfg(target_arch = "x86_64")]
const SUMS_AVX2: usize = 12;

/// Values in one portable sum.
const LANES: usize = 4;

/// A factor so near to one, and an addend so small, that no sum leaves the range of normal numbers.
const FACTOR: f32 = 0.999_999_9;
const ADDEND: f32 = 1e-7;

/// The widest kernel of this processor.
pub fn kernel() -> FmaKernel {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return FmaKernel { run: avx512, operations_each_round: SUMS * 16 * 2 };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return FmaKernel { run: avx2, operations_each_round: SUMS_AVX2 * 8 * 2 };
        }
    }
    FmaKernel { run: portable, operations_each_round: SUMS * LANES * 2 }
}

fn portable(rounds: usize) -> f32 {
    let (factor, addend) = std::hint::black_box((FACTOR, ADDEND));
    let mut sums = [[1.0_f32; LANES]; SUMS];
    for _ in 0..rounds {
        for value in sums.as_flattened_mut() {
            // `mul_add` calls a library function where the instruction is not certain to exist.
            *value = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                value.mul_add(factor, addend)
            } else {
                *value * factor + addend
            };
        }
    }
    sums.as_flattened().iter().sum()
}

#[cfg(target_arch = "x86_64")]
fn avx512(rounds: usize) -> f32 {
    assert!(is_x86_feature_detected!("avx512f"), "chosen only where it is there");
    // SAFETY: the instructions have just been found to exist.
    unsafe { avx512_unchecked(rounds) }
}

/// # Safety
/// The processor must have AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_unchecked(rounds: usize) -> f32 {
    use std::arch::x86_64::*;
    let (factor, addend) = std::hint::black_box((FACTOR, ADDEND));
    let (factor, addend) = (_mm512_set1_ps(factor), _mm512_set1_ps(addend));
    let mut sums = [_mm512_set1_ps(1.0); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, addend);
        }
    }
    sums.into_iter().map(|it| _mm512_reduce_add_ps(it)).sum()
}

#[cfg(target_arch = "x86_64")]
fn avx2(rounds: usize) -> f32 {
    assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "both are there");
    // SAFETY: the instructions have just been found to exist.
    unsafe { avx2_unchecked(rounds) }
}

/// # Safety
/// The processor must have AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_unchecked(rounds: usize) -> f32 {
    use std::arch::x86_64::*;
    let (factor, addend) = std::hint::black_box((FACTOR, ADDEND));
    let (factor, addend) = (_mm256_set1_ps(factor), _mm256_set1_ps(addend));
    let mut sums = [_mm256_set1_ps(1.0); SUMS_AVX2];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, addend);
        }
    }
    let mut lanes = [[0.0_f32; 8]; SUMS_AVX2];
    for (lanes, sum) in lanes.iter_mut().zip(sums) {
        // SAFETY: the array holds exactly one vector of 32 bytes.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    }
    lanes.as_flattened().iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every lane of every sum does every round: so the total is that of one lane times the lanes.
    fn check(run: fn(usize) -> f32, lanes: usize) {
        let mut one = 1.0_f64;
        for _ in 0..1000 {
            one = one * f64::from(FACTOR) + f64::from(ADDEND);
        }
        let total = f64::from(run(1000)) / lanes as f64;
        // float32 rounds each of 1000 steps by at most 6e-8.
        assert!((total - one).abs() < 1e-4, "{total} and {one}");
        assert!((f64::from(run(0)) - lanes as f64).abs() < 1e-3);
    }

    #[test]
    fn each_kernel_does_the_work_it_counts() {
        check(portable, SUMS * LANES);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                check(avx512, SUMS * 16);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                check(avx2, SUMS_AVX2 * 8);
            }
        }
        let chosen = kernel();
        check(chosen.run, chosen.operations_each_round / 2);
    }
}

//! Facts that are not files, behind one seam that tests and saved trees can stand in for.

use crate::error::Class;

/// A fact that was read, or the reason why it could not be.
pub type Known<T> = Result<T, Class>;

/// Facts a running kernel gives by system call rather than through a file.
pub trait Live: std::fmt::Debug {
    /// Seconds and nanoseconds since boot, suspended time included (`CLOCK_BOOTTIME`).
    fn since_boot(&self) -> Known<(u64, u32)>;
    /// The moment of the boot on today's wall clock, nanoseconds since 1970. It moves only when the
    /// clock is set: both clocks it is worked out from are slewed alike.
    fn boot_moment(&self) -> Known<i128>;
    /// Clock ticks a second of `/proc`'s time fields (`sysconf(_SC_CLK_TCK)`).
    fn ticks_per_second(&self) -> Known<u64>;
    /// Bytes a page.
    fn page_size(&self) -> Known<u64>;
    /// The effective uid of this process.
    fn euid(&self) -> Known<u32>;
}

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Live for Kernel {
    fn since_boot(&self) -> Known<(u64, u32)> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).map_err(|_| Class::Malformed)?;
        Ok((seconds, u32::try_from(now.tv_nsec).map_err(|_| Class::Malformed)?))
    }

    fn boot_moment(&self) -> Known<i128> {
        let nanos = |id| {
            let now = rustix::time::clock_gettime(id);
            i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
        };
        let wall = nanos(rustix::time::ClockId::Realtime);
        Ok(wall - nanos(rustix::time::ClockId::Boottime))
    }

    fn ticks_per_second(&self) -> Known<u64> {
        Ok(rustix::param::clock_ticks_per_second())
    }

    fn page_size(&self) -> Known<u64> {
        Ok(rustix::param::page_size() as u64)
    }

    fn euid(&self) -> Known<u32> {
        Ok(rustix::process::geteuid().as_raw())
    }
}

/// A saved tree, which has no running kernel behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saved;

impl Live for Saved {
    fn since_boot(&self) -> Known<(u64, u32)> {
        Err(Class::Unsupported)
    }

    fn boot_moment(&self) -> Known<i128> {
        Err(Class::Unsupported)
    }

    fn ticks_per_second(&self) -> Known<u64> {
        Err(Class::Unsupported)
    }

    fn page_size(&self) -> Known<u64> {
        Err(Class::Unsupported)
    }

    fn euid(&self) -> Known<u32> {
        Err(Class::Unsupported)
    }
}

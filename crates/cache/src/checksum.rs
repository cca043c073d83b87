//! CRC-32 (IEEE 802.3), eight bytes at a time: nobody forges files of a directory that only the edge may write, but
//! disks and crashes do.

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// A checksum that grows.
#[derive(Clone, Copy, Debug)]
pub struct Checksum(u32);

impl Checksum {
    pub const fn new() -> Self {
        Self(u32::MAX)
    }

    /// Of one piece.
    pub fn of(data: &[u8]) -> u32 {
        let mut sum = Self::new();
        sum.add(data);
        sum.finish()
    }

    pub fn add(&mut self, data: &[u8]) {
        let mut sum = self.0;
        let (eights, rest) = data.as_chunks::<8>();
        for eight in eights {
            let low = u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]) ^ sum;
            sum = TABLES[7][(low & 0xFF) as usize]
                ^ TABLES[6][(low >> 8 & 0xFF) as usize]
                ^ TABLES[5][(low >> 16 & 0xFF) as usize]
                ^ TABLES[4][(low >> 24) as usize]
                ^ TABLES[3][eight[4] as usize]
                ^ TABLES[2][eight[5] as usize]
                ^ TABLES[1][eight[6] as usize]
                ^ TABLES[0][eight[7] as usize];
        }
        for byte in rest {
            sum = (sum >> 8) ^ TABLES[0][((sum ^ u32::from(*byte)) & 0xFF) as usize];
        }
        self.0 = sum;
    }

    pub const fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_the_standard() {
        assert_eq!(Checksum::of(b"123456789"), 0xCBF4_3926);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_it_is_cut(data: Vec<u8>, at in 0_usize..300) {
            let at = at.min(data.len());
            let mut sum = Checksum::new();
            sum.add(&data[..at]);
            sum.add(&data[at..]);
            prop_assert_eq!(sum.finish(), Checksum::of(&data));
        }
    }
}

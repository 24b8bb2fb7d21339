//! A verification policy with its number, as it is part of the state.

use super::{VERIFICATION_BYTES_MAX, VerificationPolicy};
use crate::revocation::codec::{DecodeError, Reader};

/// A verification policy and which of its history it is.
///
/// A checker follows it with [`crate::revocation::ports::VerificationPolicies`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedPolicy {
    /// From 1 on, without gaps within an epoch. A restored history goes on from its backup's.
    pub version: u64,
    /// What is in force with it.
    pub policy: VerificationPolicy,
}

impl VersionedPolicy {
    /// The canonical encoding: u64le version ‖ u32le length ‖ the policy's.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let policy = self.policy.encode();
        let mut out = Vec::with_capacity(12 + policy.len());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(policy.len() as u32).to_le_bytes());
        out.extend_from_slice(&policy);
        out
    }

    /// Takes one off the front of what is read.
    ///
    /// # Errors
    /// When the bytes are not canonical, or no valid policy.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u64()?;
        if version == 0 {
            return Err(DecodeError::Invalid("version of a verification policy"));
        }
        let length = reader.count(VERIFICATION_BYTES_MAX, 1, "bytes of a verification policy")?;
        Ok(Self { version, policy: VerificationPolicy::decode(reader.take(length)?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(version: u64) -> VersionedPolicy {
        VersionedPolicy { version, policy: VerificationPolicy::new(Vec::new(), Vec::new()).unwrap() }
    }

    #[test]
    fn the_version_and_the_length_stand_before_the_policy() {
        let bytes = empty(0x0102).encode();
        assert_eq!(bytes, [2, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        let mut reader = Reader::new(&bytes);
        assert_eq!(VersionedPolicy::read(&mut reader), Ok(empty(0x0102)));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn nothing_else_is_read_as_one() {
        let bytes = empty(1).encode();
        for length in 0..bytes.len() {
            assert!(VersionedPolicy::read(&mut Reader::new(&bytes[..length])).is_err(), "{length}");
        }
        assert!(VersionedPolicy::read(&mut Reader::new(&empty(0).encode())).is_err(), "there is no version 0");
        let mut long = bytes;
        long[8..12].copy_from_slice(&(VERIFICATION_BYTES_MAX as u32 + 1).to_le_bytes());
        let refused = VersionedPolicy::read(&mut Reader::new(&long));
        let limit = VERIFICATION_BYTES_MAX;
        assert_eq!(refused, Err(DecodeError::TooMany { what: "bytes of a verification policy", limit }));
    }
}

//! The ciphers of a call's audio: AES-GCM by `ring`; by `aes`, counter mode and single blocks, which `ring` does not
//! offer.

use aes::{
    Aes128, Aes256, Block,
    cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher},
};
use ring::aead;
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, SrtpProvider, SupportedAeadAes128Gcm,
    SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
};

#[derive(Debug)]
pub(super) struct Srtp;

impl SrtpProvider for Srtp {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Self
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Self
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Self
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        if let Ok(cipher) = Aes128::new_from_slice(key) {
            one_block(&cipher, input, output);
        }
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        if let Ok(cipher) = Aes256::new_from_slice(key) {
            one_block(&cipher, input, output);
        }
    }
}

/// Encrypts one block. str0m passes room for two and reads the first.
fn one_block(cipher: &impl BlockEncrypt<BlockSize = aes::cipher::consts::U16>, input: &[u8], output: &mut [u8]) {
    if let (Some(input), Some(output)) = (input.first_chunk::<16>(), output.first_chunk_mut::<16>()) {
        let mut block = Block::from(*input);
        cipher.encrypt_block(&mut block);
        output.copy_from_slice(&block);
    }
}

impl SupportedAes128CmSha1_80 for Srtp {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(CounterMode { key })
    }
}

impl SupportedAeadAes128Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Gcm { key: key.to_vec(), algorithm: &aead::AES_128_GCM })
    }
}

impl SupportedAeadAes256Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 32], _: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Gcm { key: key.to_vec(), algorithm: &aead::AES_256_GCM })
    }
}

struct CounterMode {
    key: [u8; 16],
}

impl std::fmt::Debug for CounterMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CounterMode").finish_non_exhaustive()
    }
}

impl Aes128CmSha1_80Cipher for CounterMode {
    fn encrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let output = output.get_mut(..input.len()).ok_or_else(too_short)?;
        ctr::Ctr128BE::<Aes128>::new(&self.key.into(), iv.into())
            .apply_keystream_b2b(input, output)
            .map_err(|fault| CryptoError::Other(fault.to_string()))
    }

    fn decrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.encrypt(iv, input, output)
    }
}

struct Gcm {
    key: Vec<u8>,
    algorithm: &'static aead::Algorithm,
}

impl std::fmt::Debug for Gcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gcm").finish_non_exhaustive()
    }
}

impl Gcm {
    fn key(&self) -> Result<aead::LessSafeKey, CryptoError> {
        aead::UnboundKey::new(self.algorithm, &self.key).map(aead::LessSafeKey::new).map_err(refused)
    }

    /// Writes the ciphertext, followed by the tag.
    fn seal(&self, iv: [u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let (text, rest) = output.split_at_mut_checked(input.len()).ok_or_else(too_short)?;
        text.copy_from_slice(input);
        let nonce = aead::Nonce::assume_unique_for_key(iv);
        let tag = self.key()?.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), text).map_err(refused)?;
        rest.get_mut(..tag.as_ref().len()).ok_or_else(too_short)?.copy_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(&self, iv: [u8; 12], aads: &[&[u8]], input: &[u8], output: &mut [u8]) -> Result<usize, CryptoError> {
        let mut text = input.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(iv);
        let text = self.key()?.open_in_place(nonce, aead::Aad::from(aads.concat()), &mut text).map_err(refused)?;
        output.get_mut(..text.len()).ok_or_else(too_short)?.copy_from_slice(text);
        Ok(text.len())
    }
}

fn refused(_: ring::error::Unspecified) -> CryptoError {
    CryptoError::Other("AES-GCM refused a packet".into())
}

fn too_short() -> CryptoError {
    CryptoError::Other("the output buffer is too short".into())
}

impl AeadAes128GcmCipher for Gcm {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.seal(*iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(*iv, aads, input, output)
    }
}

impl AeadAes256GcmCipher for Gcm {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.seal(*iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(*iv, aads, input, output)
    }
}

//! Who a certificate says that a client is.

use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Tag, Tagged};

/// `id-at-commonName`, RFC 5280 appendix A.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The common name in a certificate's subject: the last, which is the most specific. None if it has none, or one
/// that no user may have.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let subject = certificate.tbs_certificate().subject();
    let attribute = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME).last()?;
    let name = match attribute.value.tag() {
        Tag::Utf8String => attribute.value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::PrintableString => {
            attribute.value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned()
        }
        _ => return None,
    };
    can_be_user(&name).then_some(name)
}

/// Whether a user name of MQTT can be this: not empty, at most 65 535 bytes, without U+0000.
pub(super) fn can_be_user(name: &str) -> bool {
    !name.is_empty() && name.len() <= usize::from(u16::MAX) && !name.contains('\0')
}

//! The section `ServiceRegistry`, which go-zero does not have.

use super::section::Section;
use crate::advertise::Advertise;
use crate::store::{DEFAULT_WEIGHT, Target};
use crate::{Result, ServiceName};
use std::collections::BTreeMap;

/// The name of the section.
pub(super) const OWN: &str = "ServiceRegistry";

/// The prefix of the section's fields in errors.
pub(super) const PREFIX: &str = "ServiceRegistry.";

/// The fields of the section, for servers and clients.
const FIELDS: [&str; 8] =
    ["Url", "Key", "AdvertiseOn", "Interface", "Cidr", "Weight", "Metadata", "InsecureSkipVerify"];

/// The section `ServiceRegistry`.
pub(super) struct OwnSection(Section);

impl OwnSection {
    /// Returns the section in `config`.
    ///
    /// # Errors
    ///
    /// `Invalid` if it has an unknown field, since that field would have no effect.
    pub(super) fn of(config: &Section) -> Result<Option<Self>> {
        let Some(own) = config.section(OWN, PREFIX)? else { return Ok(None) };
        for name in own.names() {
            if !FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name)) {
                let known = FIELDS.join("`, `");
                let name = name.escape_debug().to_string();
                return Err(own.field_error(&name, &format!("is unknown, known are: `{known}`")));
            }
        }
        Ok(Some(Self(own)))
    }

    /// Returns the registry to use instead of `Etcd`, and the service there: `Key`, or the first of `others` that is
    /// set. `others` are pairs of field name and value.
    pub(super) fn place(
        &self,
        others: &[(&str, Option<&str>)],
    ) -> Result<Option<(Target, ServiceName)>> {
        let Some(url) = self.0.non_empty_text("Url")? else {
            return match self.0.non_empty_text("Key")? {
                None => Ok(None),
                Some(_) => Err(self
                    .0
                    .field_error("Url", "is missing: set it beside `ServiceRegistry.Key`")),
            };
        };
        let registry = url.parse().map_err(|error| self.0.with_field("Url", error))?;
        if let Some(key) = self.0.non_empty_text("Key")? {
            let service = key.parse().map_err(|error| self.0.with_field("Key", error))?;
            return Ok(Some((registry, service)));
        }
        let other = others.iter().find_map(|(field, key)| Some((field, (*key)?)));
        let (field, key) = other.ok_or_else(|| {
            self.0.field_error("Key", "is missing: set it beside `ServiceRegistry.Url`")
        })?;
        let service = key.parse().map_err(|error| super::refused(field, error))?;
        Ok(Some((registry, service)))
    }

    pub(super) fn advertise(&self, mut advertise: Advertise) -> Result<Advertise> {
        if let Some(address) = self.0.non_empty_text("AdvertiseOn")? {
            let changed = advertise.with_address(address);
            advertise = changed.map_err(|error| self.0.with_field("AdvertiseOn", error))?;
        }
        if let Some(interface) = self.0.non_empty_text("Interface")? {
            advertise = advertise.with_interface(interface);
        }
        if let Some(cidr) = self.0.non_empty_text("Cidr")? {
            advertise =
                advertise.with_cidr(cidr).map_err(|error| self.0.with_field("Cidr", error))?;
        }
        Ok(advertise)
    }

    pub(super) fn weight(&self) -> Result<u32> {
        let Some(weight) = self.0.integer("Weight")? else { return Ok(DEFAULT_WEIGHT) };
        u32::try_from(weight)
            .map_err(|_| self.0.field_error("Weight", "is not within 0 to 4294967295"))
    }

    pub(super) fn metadata(&self) -> Result<BTreeMap<String, String>> {
        // YAML reads an unquoted version `1.10` as the number 1.1, so only strings are accepted.
        let metadata = self.0.section("Metadata", "ServiceRegistry.Metadata.")?;
        metadata.map_or_else(|| Ok(BTreeMap::new()), |metadata| metadata.all_texts())
    }

    /// Returns whether the section confirms `Etcd.InsecureSkipVerify`.
    pub(super) fn skips_verification(&self) -> Result<bool> {
        Ok(self.0.flag("InsecureSkipVerify")?.unwrap_or(false))
    }
}

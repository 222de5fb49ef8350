//! What the desk asks of a payment provider.

use std::future::Future;

/// A payment provider. Each call names an idempotency key, and a key is charged at most once,
/// however often and from wherever it is asked: that is what makes retries safe.
pub trait Payment: Clone + Send + Sync + 'static {
    /// Charges the card, or answers as it did before when the key is known.
    fn charge(
        &self,
        charge: &Charge<'_>,
    ) -> impl Future<Output = Result<Receipt, PaymentError>> + Send;

    /// What became of a key: its receipt when it was charged. When it was not, the key is closed,
    /// so that a charge which is still under way is refused.
    fn settle(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<Receipt>, PaymentError>> + Send;

    /// Gives the money back; a second time does nothing.
    fn refund(&self, key: &str) -> impl Future<Output = Result<(), PaymentError>> + Send;
}

/// Money to be moved.
#[derive(Clone, Copy)]
pub struct Charge<'a> {
    /// The idempotency key.
    pub key: &'a str,
    /// How much, in the currency's smallest unit; more than 0.
    pub amount_cents: i64,
    /// ISO 4217 code.
    pub currency: &'a str,
    /// The provider's token for a card; the stand-in takes test numbers.
    pub card: &'a str,
}

/// Proof of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's reference.
    pub reference: String,
}

/// Why there is no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaymentError {
    /// The provider refused, and will refuse this key again.
    #[error("the payment was declined: {0}")]
    Declined(String),
    /// Nobody knows: it may have been charged. Ask again with the same key.
    #[error("the payment provider did not answer: {0}")]
    Unknown(String),
}

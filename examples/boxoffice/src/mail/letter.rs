//! A letter and how it is written down.

use lettre::{
    Message,
    message::{Attachment as Part, Mailbox, MultiPart, SinglePart, header::ContentType},
};

use super::Error;

/// A letter to one person.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Tells letters apart: `[a-z0-9-]`, the same when the same letter is sent again.
    pub id: String,
    /// The reader's name.
    pub name: String,
    /// The reader's address.
    pub email: String,
    /// The subject.
    pub subject: String,
    /// The letter as plain text.
    pub text: String,
    /// What comes with it.
    pub attachments: Vec<Attachment>,
}

/// A file in a letter.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Its file name.
    pub name: String,
    /// Its media type, such as `application/pdf`.
    pub media_type: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Letter {
    /// The letter in the form that travels.
    pub(super) fn write(&self, from: &Mailbox) -> Result<Message, Error> {
        let wrong = |what: String| Error::Letter { id: self.id.clone(), what };
        let address = self.email.parse().map_err(|error| wrong(format!("{error}")))?;
        let host = from.email.domain();
        let mut body = MultiPart::mixed().singlepart(SinglePart::plain(self.text.clone()));
        for file in &self.attachments {
            let kind =
                ContentType::parse(file.media_type).map_err(|error| wrong(error.to_string()))?;
            body = body.singlepart(Part::new(file.name.clone()).body(file.bytes.clone(), kind));
        }
        Message::builder()
            .message_id(Some(format!("<{}@{host}>", self.id)))
            .from(from.clone())
            .to(Mailbox::new(Some(self.name.clone()), address))
            .subject(self.subject.clone())
            .multipart(body)
            .map_err(|error| wrong(error.to_string()))
    }
}

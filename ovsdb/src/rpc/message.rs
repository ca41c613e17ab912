//! Messages.

use serde_json::{Map, Value};

/// A JSON-RPC message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A call that wants an answer.
    Request {
        /// What to do.
        method: String,
        /// With what.
        params: Vec<Value>,
        /// Comes back with the answer; not null.
        id: Value,
    },
    /// A call that does not.
    Notification {
        /// What to do.
        method: String,
        /// With what.
        params: Vec<Value>,
    },
    /// The answer to a request that was carried out.
    Reply {
        /// The request's.
        id: Value,
        /// The answer.
        result: Value,
    },
    /// The answer to a request that was not.
    Error {
        /// The request's.
        id: Value,
        /// Why not.
        error: Value,
    },
}

/// JSON that is no JSON-RPC message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not an object.
    #[error("message is not a JSON object")]
    NotObject,
    /// A member that messages do not have.
    #[error("message has unexpected member \"{0}\"")]
    UnexpectedMember(String),
    /// A method that is no string.
    #[error("\"method\" must be a JSON string")]
    MethodNotString,
    /// Parameters that are no array.
    #[error("\"params\" must be a JSON array")]
    ParamsNotArray,
    /// A member missing or present in a message of this kind.
    #[error("{kind} must {} \"{member}\"", if *.wanted { "have" } else { "not have" })]
    Shape {
        /// request, notification, reply or error.
        kind: &'static str,
        /// Whether the member should be there.
        wanted: bool,
        /// Its name.
        member: &'static str,
    },
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// Says which member is wrong, missing or too much.
    pub fn from_json(json: Value) -> Result<Message, MessageError> {
        let Value::Object(mut object) = json else { return Err(MessageError::NotObject) };
        let mut take = |name: &str| object.remove(name).filter(|value| !value.is_null());
        let (method, params, id) = (take("method"), take("params"), take("id"));
        let (result, error) = (take("result"), take("error"));
        if let Some(extra) = object.keys().next() {
            return Err(MessageError::UnexpectedMember(extra.clone()));
        }
        if method.is_none() {
            return Self::answer(params, id, result, error);
        }
        let kind = if id.is_some() { "request" } else { "notification" };
        let shape = |wanted, member| MessageError::Shape { kind, wanted, member };
        let Some(Value::String(method)) = method else { return Err(MessageError::MethodNotString) };
        let params = match params {
            Some(Value::Array(params)) => params,
            Some(_) => return Err(MessageError::ParamsNotArray),
            // ovsdb-server(7) has get_server_id sent with null parameters.
            None if method == "get_server_id" => Vec::new(),
            None => return Err(shape(true, "params")),
        };
        if result.is_some() {
            return Err(shape(false, "result"));
        }
        if error.is_some() {
            return Err(shape(false, "error"));
        }
        Ok(match id {
            Some(id) => Message::Request { method, params, id },
            None => Message::Notification { method, params },
        })
    }

    fn answer(
        params: Option<Value>,
        id: Option<Value>,
        result: Option<Value>,
        error: Option<Value>,
    ) -> Result<Message, MessageError> {
        let kind = match (&result, &error) {
            (None, None) => {
                return Err(MessageError::Shape { kind: "request", wanted: true, member: "method" });
            }
            (_, Some(_)) => "error",
            _ => "reply",
        };
        let shape = |wanted, member| MessageError::Shape { kind, wanted, member };
        if params.is_some() {
            return Err(shape(false, "params"));
        }
        let id = id.ok_or_else(|| shape(true, "id"))?;
        match (result, error) {
            (Some(_), Some(_)) => Err(shape(false, "result")),
            (_, Some(error)) => Ok(Message::Error { id, error }),
            (result, None) => Ok(Message::Reply { id, result: result.unwrap_or(Value::Null) }),
        }
    }

    /// Prints a message.
    pub fn to_json(&self) -> Value {
        let call = |method: &str, params: &[Value], id: Value| {
            [("method", Value::from(method)), ("params", Value::from(params)), ("id", id)]
        };
        let members = match self {
            Message::Request { method, params, id } => call(method, params, id.clone()),
            Message::Notification { method, params } => call(method, params, Value::Null),
            Message::Reply { id, result } => {
                [("id", id.clone()), ("result", result.clone()), ("error", Value::Null)]
            }
            Message::Error { id, error } => {
                [("id", id.clone()), ("result", Value::Null), ("error", error.clone())]
            }
        };
        Value::Object(
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
        )
    }
}

//! What clients may ask for.

use base::time::Instant;
use serde_json::{Value, json};

use super::locks::LOCKS_MAX;
use super::monitor::{Flavour, Monitor};
use super::{MONITORS_MAX, Server, SessionError, SessionId, WAITS_MAX};
use crate::error::{DbError, ErrorTag};
use crate::members::identifier;
use crate::rpc::Message;
use crate::uuid::Uuid;

/// Why a request is answered with an error.
enum Refusal {
    /// An error object.
    Object(DbError),
    /// A bare string, as the protocol has it in places.
    Text(&'static str),
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Refusal::Object(error)
    }
}

fn params_json(params: &[Value]) -> Value {
    Value::from(params)
}

fn syntax(params: &[Value], details: impl Into<String>) -> Refusal {
    Refusal::Object(DbError::syntax(&params_json(params), details))
}

impl Server {
    pub(super) fn dispatch(
        &mut self,
        id: SessionId,
        message: Message,
        now: Instant,
    ) -> Result<(), SessionError> {
        match message {
            Message::Request { method, params, id: request } => {
                self.request(id, &method, params, request, now);
                Ok(())
            }
            Message::Notification { method, params } => {
                // Other notifications mean nothing to a server.
                if method == "cancel" {
                    self.cancel(id, &params);
                }
                Ok(())
            }
            Message::Reply { id: request, .. } | Message::Error { id: request, .. } => {
                if request == "echo" {
                    Ok(())
                } else {
                    Err(SessionError::UnexpectedReply)
                }
            }
        }
    }

    fn request(&mut self, id: SessionId, method: &str, params: Vec<Value>, request: Value, now: Instant) {
        let answer = match method {
            "transact" => match self.transact(id, params, &request, now) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            _ => {
                // Anything else must see, and be answered after, what was asked for before.
                self.flush(now);
                self.answer(id, method, &params)
            }
        };
        let message = match answer {
            Ok(result) => Message::Reply { id: request, result },
            Err(Refusal::Object(error)) => Message::Error { id: request, error: error.to_json() },
            Err(Refusal::Text(text)) => Message::Error { id: request, error: Value::from(text) },
        };
        self.send(id, &message);
    }

    fn answer(&mut self, id: SessionId, method: &str, params: &[Value]) -> Result<Value, Refusal> {
        match method {
            "echo" => Ok(params_json(params)),
            "list_dbs" => Ok(self.database_names().collect::<Vec<_>>().into()),
            "get_server_id" => Ok(Value::from(self.id.to_string())),
            "get_schema" => {
                let name = self.database_param(method, params)?;
                Ok(self.schema(&name).map_or(Value::Null, |schema| schema.to_json()))
            }
            "monitor" => self.monitor(id, Flavour::Plain, method, params),
            "monitor_cond" => self.monitor(id, Flavour::Conditional, method, params),
            "monitor_cond_since" => self.monitor(id, Flavour::Since, method, params),
            "monitor_cond_change" => self.monitor_cond_change(id, params),
            "monitor_cancel" => self.monitor_cancel(id, params),
            "lock" | "steal" => self.lock(id, method, params),
            "unlock" => self.unlock(id, params),
            "set_db_change_aware" => {
                let [Value::Bool(aware)] = params else {
                    return Err(syntax(params, "set_db_change_aware: true or false parameter expected"));
                };
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.change_aware = *aware;
                }
                Ok(json!({}))
            }
            _ => Err(Refusal::Text("unknown method")),
        }
    }

    fn database_param(&self, method: &str, params: &[Value]) -> Result<String, Refusal> {
        let Some(Value::String(name)) = params.first() else {
            return Err(syntax(params, format!("{method} request params must begin with <db-name>")));
        };
        if self.databases.contains_key(name) {
            return Ok(name.clone());
        }
        Err(Refusal::Object(DbError::at(
            ErrorTag::UnknownDatabase,
            &params_json(params),
            format!("{method} request specifies unknown database {name}"),
        )))
    }

    fn transact(
        &mut self,
        id: SessionId,
        mut params: Vec<Value>,
        request: &Value,
        now: Instant,
    ) -> Result<(), Refusal> {
        let database = self.database_param("transact", &params)?;
        let mut waiting = 0;
        for pending in self.pending.iter().filter(|pending| pending.session == id) {
            if pending.request == *request {
                return Err(syntax(&params, "transact: duplicate request ID"));
            }
            waiting += 1;
        }
        if waiting >= WAITS_MAX {
            return Err(Refusal::Object(DbError::new(
                ErrorTag::NotAllowed,
                format!("transact: more than {WAITS_MAX} transactions are waiting"),
            )));
        }
        params.remove(0);
        self.begin(id, request.clone(), &database, params, now);
        Ok(())
    }

    fn cancel(&mut self, id: SessionId, params: &[Value]) {
        let [request] = params else { return };
        let found =
            self.pending.iter().position(|pending| pending.session == id && pending.request == *request);
        if let Some(at) = found {
            let pending = self.pending.remove(at);
            self.send(id, &Message::Error { id: pending.request, error: Value::from("canceled") });
        }
    }

    fn monitor(
        &mut self,
        id: SessionId,
        flavour: Flavour,
        method: &str,
        params: &[Value],
    ) -> Result<Value, Refusal> {
        let database = self.database_param(method, params)?;
        let (name, requests) = match (flavour, params) {
            (Flavour::Since, [_, name, requests, last]) => {
                let valid = last.as_str().is_some_and(|text| text.parse::<Uuid>().is_ok());
                if !valid {
                    return Err(DbError::syntax(last, "last-txn-id must be UUID format.").into());
                }
                (name, requests)
            }
            (Flavour::Plain | Flavour::Conditional, [_, name, requests]) => (name, requests),
            _ => return Err(syntax(params, "invalid parameters")),
        };
        let (Some(hosted), Some(session)) = (self.databases.get(&database), self.sessions.get_mut(&id))
        else {
            return Err(Refusal::Text("no such session"));
        };
        if session.monitors.contains_key(&name.to_string()) {
            return Err(DbError::syntax(name, "duplicate monitor ID").into());
        }
        if session.monitors.len() >= MONITORS_MAX {
            return Err(syntax(params, format!("more than {MONITORS_MAX} monitors")));
        }
        let monitor = Monitor::from_json(hosted.database.schema(), flavour, name.clone(), requests)?;
        let initial = monitor.initial(&hosted.database);
        session.monitors.insert(name.to_string(), monitor);
        Ok(match flavour {
            // A standalone server keeps no history to continue from, so the view is always whole.
            Flavour::Since => json!([false, Uuid::ZERO.to_string(), initial]),
            _ => initial,
        })
    }

    fn monitor_cond_change(&mut self, id: SessionId, params: &[Value]) -> Result<Value, Refusal> {
        let [old_name, new_name, requests] = params else {
            return Err(syntax(params, "invalid parameters"));
        };
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Refusal::Text("no such session")) };
        let conditional = |monitor: &Monitor| monitor.flavour != Flavour::Plain;
        let unknown = || Refusal::Object(DbError::syntax(old_name, "unknown monitor session"));
        if !session.monitors.get(&old_name.to_string()).is_some_and(conditional) {
            return Err(unknown());
        }
        if old_name != new_name && session.monitors.contains_key(&new_name.to_string()) {
            return Err(DbError::syntax(new_name, "duplicate monitor ID").into());
        }
        let mut monitor = session.monitors.remove(&old_name.to_string()).ok_or_else(unknown)?;
        let Some(hosted) = self.databases.get(&monitor.database) else {
            return Err(Refusal::Text("unknown database"));
        };
        let changed = monitor.change(&hosted.database, new_name.clone(), requests);
        let key = if changed.is_ok() { new_name } else { old_name };
        session.monitors.insert(key.to_string(), monitor);
        if let Some((method, params)) = changed? {
            self.notify(id, &method, params);
        }
        Ok(json!({}))
    }

    fn monitor_cancel(&mut self, id: SessionId, params: &[Value]) -> Result<Value, Refusal> {
        let [name] = params else { return Err(Refusal::Text("invalid parameters")) };
        let session = self.sessions.get_mut(&id);
        match session.and_then(|session| session.monitors.remove(&name.to_string())) {
            Some(_) => Ok(json!({})),
            None => Err(Refusal::Text("unknown monitor")),
        }
    }

    fn lock(&mut self, id: SessionId, method: &str, params: &[Value]) -> Result<Value, Refusal> {
        let [name] = params else {
            return Err(syntax(params, format!("{method} request params must be <id>")));
        };
        let name = identifier(name)
            .ok_or_else(|| syntax(params, format!("{method} request params must be <id>")))?;
        if self.locks.is_queued(name, id) {
            return Err(syntax(params, format!("must issue \"unlock\" before new \"{method}\"")));
        }
        if self.locks.count(id) >= LOCKS_MAX {
            return Err(syntax(params, format!("more than {LOCKS_MAX} locks")));
        }
        let locked = if method == "lock" {
            self.locks.lock(name, id)
        } else {
            if let Some(victim) = self.locks.steal(name, id) {
                self.notify(victim, "stolen", vec![Value::from(name)]);
            }
            true
        };
        Ok(json!({ "locked": locked }))
    }

    fn unlock(&mut self, id: SessionId, params: &[Value]) -> Result<Value, Refusal> {
        let [name] = params else { return Err(syntax(params, "unlock request params must be <id>")) };
        let name = identifier(name).ok_or_else(|| syntax(params, "unlock request params must be <id>"))?;
        if !self.locks.is_queued(name, id) {
            return Err(syntax(params, "unlock: \"unlock\" without \"lock\" or \"steal\""));
        }
        if let Some(owner) = self.locks.unlock(name, id) {
            self.notify(owner, "locked", vec![Value::from(name)]);
        }
        Ok(json!({}))
    }
}

//! The connection to systemd: made when somebody needs it, shared, and closed when nobody does.
//!
//! A bus grants root 256 connections on a whole host, and a host can have a thousand wrapper units, so at rest procroll
//! holds none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::proxy::CacheProperties;

use super::manager::{JobProxy, ManagerProxy, ServiceProxy, SocketProxy, UnitProxy};
use super::{Error, Place};

/// systemd's name on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

/// How long a call may take. A daemon-reload keeps PID 1 busy for seconds on large hosts.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The way to systemd.
#[derive(Debug)]
pub struct Bus {
    /// Where systemd is.
    pub place: Arc<Place>,
    live: Mutex<Weak<Connection>>,
    /// There is no connection, and the last attempt to make one was in vain, or goes on.
    is_down: AtomicBool,
}

/// A connection in use; it closes when the last of its clones is dropped.
#[derive(Clone, Debug)]
pub struct Link {
    connection: Arc<Connection>,
    place: Arc<Place>,
}

impl Bus {
    /// A way to the systemd of this place. Nothing is connected yet.
    pub fn new(place: Place) -> Self {
        Self { place: Arc::new(place), live: Mutex::default(), is_down: AtomicBool::new(false) }
    }

    /// The connection in use, or a new one.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where there is no bus, [`Error::NotAllowed`].
    pub async fn connect(&self) -> Result<Link, Error> {
        // Only one at a time: what is sent in order must arrive in order, so there must not be two connections.
        let mut live = self.live.lock().await;
        if let Some(connection) = live.upgrade().filter(|connection| !connection.is_closed()) {
            return Ok(Link { connection, place: Arc::clone(&self.place) });
        }
        // While the machine goes down the bus has ended, but not its socket, at which nobody answers.
        self.is_down.store(true, Ordering::Relaxed);
        let unreachable = |error: zbus::Error| match Error::from(error) {
            Error::Lost(why) | Error::Other(why) => Error::Unreachable(why),
            error => error,
        };
        let connecting =
            zbus::connection::Builder::address(self.place.bus_address.as_str()).method_timeout(CALL_TIMEOUT).build();
        let connection = tokio::time::timeout(CALL_TIMEOUT, connecting)
            .await
            .map_err(|_| Error::Unreachable("the bus does not answer".to_owned()))?
            .map_err(unreachable)?;
        let connection = Arc::new(connection);
        *live = Arc::downgrade(&connection);
        self.is_down.store(false, Ordering::Relaxed);
        Ok(Link { connection, place: Arc::clone(&self.place) })
    }

    /// Whether systemd could be reached when that was last tried, and at once.
    pub fn is_up(&self) -> bool {
        !self.is_down.load(Ordering::Relaxed)
    }

    /// To be waited for before a call that failed is made again: where the bus is there, it is systemd that is not, and must not
    /// be asked in a frenzy.
    pub async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Connects, and tries again for as long as that fails.
    pub async fn insist(&self) -> Link {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.connect().await {
                Ok(link) => return link,
                Err(error) => tracing::debug!("not yet: {error}"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

impl Link {
    /// Where it leads to.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// systemd itself.
    pub async fn manager(&self) -> Result<ManagerProxy<'static>, Error> {
        Ok(ManagerProxy::builder(&self.connection).cache_properties(CacheProperties::No).build().await?)
    }

    /// Has systemd tell this connection of all units.
    pub(super) async fn subscribe(&self) -> Result<(), Error> {
        match self.manager().await?.subscribe().await {
            Err(zbus::Error::MethodError(name, ..)) if name == "org.freedesktop.systemd1.AlreadySubscribed" => Ok(()),
            subscribed => Ok(subscribed?),
        }
    }

    /// A unit's properties.
    pub async fn unit(&self, name: &str) -> Result<UnitProxy<'static>, Error> {
        self.unit_at(super::manager::unit_path(name).into()).await
    }

    /// A unit's properties, by its object path.
    pub async fn unit_at(&self, path: zbus::OwnedObjectPath) -> Result<UnitProxy<'static>, Error> {
        Ok(UnitProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?)
    }

    /// Whether the bus knows this process by the number that it has for itself. If not, it is in a namespace of its own, and its
    /// numbers are other processes' for systemd.
    pub async fn shares_process_ids(&self) -> Result<bool, Error> {
        let bus = DBusProxy::new(&self.connection).await?;
        let Some(name) = self.connection.unique_name() else { return Ok(false) };
        let pid = bus.get_connection_unix_process_id(name.as_ref().into()).await.map_err(zbus::Error::from)?;
        Ok(pid == std::process::id())
    }

    /// Whether systemd knows the unit just now, without making it look for one.
    pub async fn is_loaded(&self, name: &str) -> Result<bool, Error> {
        match self.manager().await?.get_unit(name).await.map_err(Error::from) {
            Ok(_) => Ok(true),
            Err(Error::NoSuchUnit(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The drop-ins that systemd has read for a unit.
    pub async fn drop_in_paths(&self, name: &str) -> Result<Vec<String>, Error> {
        Ok(self.unit(name).await?.drop_in_paths().await?)
    }

    /// Asks a unit to stop. One that is not there has stopped.
    pub async fn stop_unit(&self, name: &str) -> Result<(), Error> {
        let manager = self.manager().await?;
        // A frozen unit can't be stopped. It fails where nothing is frozen.
        let _ = manager.thaw_unit(name).await;
        match manager.stop_unit(name, "replace").await.map_err(Error::from) {
            Ok(_) | Err(Error::NoSuchUnit(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills all processes of a unit.
    pub async fn kill_unit(&self, name: &str) -> Result<(), Error> {
        const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;
        match self.manager().await?.kill_unit(name, "all", SIGKILL).await.map_err(Error::from) {
            Ok(()) | Err(Error::NoSuchUnit(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to a unit's main process, if that is one of its own: systemd believes root's `MAINPID=` whoever's it
    /// is. One that named this process would have the signal come back for ever.
    pub async fn signal_main(&self, name: &str, signal: i32) -> Result<(), Error> {
        let (manager, pid) = (self.manager().await?, self.service(name).await?.main_pid().await?);
        if pid != 0 && manager.get_unit_by_pid(pid).await?.as_str() != super::manager::unit_path(name).as_str() {
            return Err(Error::Other(format!("its main process (PID {pid}) is none of its own")));
        }
        Ok(manager.kill_unit(name, "main", signal).await?)
    }

    /// A service's properties.
    pub async fn service(&self, name: &str) -> Result<ServiceProxy<'static>, Error> {
        let path = super::manager::unit_path(name);
        Ok(ServiceProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?)
    }

    /// A socket unit's properties.
    pub async fn socket(&self, name: &str) -> Result<SocketProxy<'static>, Error> {
        let path = super::manager::unit_path(name);
        Ok(SocketProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?)
    }

    /// A job. They vanish within milliseconds.
    pub async fn job(&self, path: zbus::OwnedObjectPath) -> Result<JobProxy<'static>, Error> {
        Ok(JobProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?)
    }

    /// The connection itself, for what the proxies don't do.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

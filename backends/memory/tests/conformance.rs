//! The memory backend passes the suite, under virtual time.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::Backend;
use celeriac_conformance::Subject;
use celeriac_memory::Memory;

struct InMemory(Memory);

#[async_trait]
impl Subject for InMemory {
    fn backend(&self) -> &dyn Backend {
        &self.0
    }

    async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

celeriac_conformance::suite!(start_paused = true; InMemory(Memory::new()));

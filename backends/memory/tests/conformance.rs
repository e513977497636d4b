//! The memory backend passes the suite, under virtual time.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::Backend;
use celeriac_conformance::Subject;
use celeriac_conformance::differential::Differential;
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

/// The differential test finds nothing between the reference and itself: what it finds elsewhere is a difference.
#[tokio::test(start_paused = true)]
async fn any_operations_have_the_same_effect_on_two_memories() {
    let (reference, subject) = (Memory::new(), Memory::new());
    let clients: [&dyn Backend; 2] = [&subject, &subject];
    Differential::new(1, 2_500).check(&reference, &clients).await;
}

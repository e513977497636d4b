extern crate celeriac_dsl as celeriac;

pub mod jobs {
    use celeriac::task;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Hidden(i64);

    #[task]
    pub fn unwrap(hidden: Hidden) -> Vec<Hidden> {
        vec![hidden]
    }
}

fn main() {}

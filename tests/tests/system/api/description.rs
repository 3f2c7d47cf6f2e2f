//! What the API says about itself.

use twobox_tests::{METHODS, Setup, on_process};

on_process!(every_path_has_the_methods_that_are_described);

fn every_path_has_the_methods_that_are_described(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    for (path, says) in client.description.paths() {
        let target = path.replace("{id}", "nobody");
        for method in METHODS {
            let described = says.get(method.to_ascii_lowercase()).is_some();
            // A body that is no JSON: nothing is done.
            let answer = client.send(method, &target, &client.headers(), b"x");
            assert_eq!(answer.status != 405, described, "{method} {path}: {answer:?}");
        }
    }
}

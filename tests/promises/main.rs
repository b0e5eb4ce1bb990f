//! What is promised to users, one file per part of it, one test per promise, on real processes and
//! real sockets.

mod programs;

mod globals;
mod outcome;
mod tasks_code;
mod tasks_function;
mod tasks_http;
mod tasks_module;
mod tasks_shell;

mod cancel;
mod drain;
mod events;
mod project_limit;
mod reload;
mod scheduling;
mod set_aside;
mod tenancy;
mod verdicts;
mod workers;

mod isolation;
mod limits;
mod trust;

mod poolctl;
mod tour;

mod http_api;
mod one_door;

mod page_examples;
mod page_form;
mod page_links;
mod page_tables;

mod bad_input;
mod hostile_api;
mod hostile_client;
mod hostile_costs;
mod hostile_http_tasks;
mod hostile_js;
mod hostile_machine;
mod hostile_programs;
mod hostile_shell;
mod hostile_worker;
mod originals_bugs;

mod doctor;
mod examples;
mod hostile_native;

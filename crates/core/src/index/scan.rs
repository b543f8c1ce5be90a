//! All processes of the host, with their owners.

use whose_fields::{Needs, Stage};
use whose_kernel::{Class, ReadError, scan};

use super::Index;
use super::plan::{Plan, Says};
use crate::model::gap::what;
use crate::model::{Gap, Role, Row};

/// Rows and what is missing from them.
#[derive(Debug, Default)]
pub struct Listing {
    /// The rows, in the plan's order.
    pub rows: Vec<Row>,
    /// What is missing about the whole host.
    pub gaps: Vec<Gap>,
    /// Rows that a filter could not decide about, and so are not shown.
    pub undecided: usize,
}

impl Index<'_> {
    /// Lists every process the plan asks for. Rows that a filter drops are not read further.
    ///
    /// # Errors
    /// When /proc itself can't be read.
    pub fn scan(&mut self, plan: &Plan) -> Result<Listing, ReadError> {
        let host = self.host();
        let needs = plan.needs();
        let mut listing = Listing::default();
        let mut hidden = 0_usize;
        let mut late = false;
        let mut failed = None;
        scan::each_process(host, &mut |_, opened| {
            if host.out_of_time() {
                late = true;
                return;
            }
            match opened.and_then(|dir| self.scan_one(&dir, plan, needs, &mut listing)) {
                Ok(()) => {}
                Err(e) if e.class == Class::Gone => {}
                Err(e) if e.class == Class::Forbidden => hidden += 1,
                Err(e) => failed = Some(e),
            }
        })?;
        if hidden > 0 {
            let why = format!("{hidden} processes may not be looked at");
            let remedy = Some("run as root: sudo whose ...");
            listing.gaps.push(Gap::new(
                what::PROCESS,
                Class::Forbidden,
                host.shown(b"proc"),
                why,
                remedy,
            ));
        }
        if let Some(e) = failed {
            listing.gaps.push(Gap::from_read(what::PROCESS, &e));
        }
        self.describe_rows(&mut listing.rows, needs);
        self.drop_rows(plan, Stage::Description, &mut listing);
        self.read_slow(&mut listing.rows, needs);
        if late || host.out_of_time() {
            let remedy = Some("try again with a longer --timeout");
            let why = if late { "not all processes were read in time" } else { "time ran out" };
            listing.gaps.push(Gap::new(
                what::PROCESS,
                Class::TimedOut,
                host.shown(b"proc"),
                why,
                remedy,
            ));
        }
        plan.order(&mut listing.rows);
        Ok(listing)
    }

    fn scan_one(
        &mut self,
        dir: &whose_kernel::read::process::ProcDir<'_>,
        plan: &Plan,
        needs: Needs,
        listing: &mut Listing,
    ) -> Result<(), ReadError> {
        let Some(mut row) = self.begin(dir, needs)? else {
            return Ok(());
        };
        match plan.filter(Stage::Scan, &row) {
            Says::No => return Ok(()),
            Says::Undecided => {
                listing.undecided += 1;
                return Ok(());
            }
            Says::Yes => {}
        }
        if !self.finish(dir, &mut row, needs)? {
            return Ok(());
        }
        // A daemon tells where its containers' state is, before any of them needs it.
        // Only one that was recognised as the host's own: anyone may take the name.
        let daemon = row.process.role.known() == Some(&Role::Plumbing)
            && row.process.comm() == b"dockerd"
            && row.owner().is_some_and(|o| !o.kind.contains());
        if needs.has(Needs::DESCRIPTION) && daemon {
            self.roots_from_daemon(row.process.pid, row.process.start_ticks());
        }
        if needs.has(Needs::DESCRIPTION) {
            self.notice_engine(&row);
        }
        match plan.filter(Stage::Owner, &row) {
            Says::No => {}
            Says::Undecided => listing.undecided += 1,
            Says::Yes => listing.rows.push(row),
        }
        Ok(())
    }

    fn drop_rows(&self, plan: &Plan, stage: Stage, listing: &mut Listing) {
        let undecided = &mut listing.undecided;
        listing.rows.retain(|row| match plan.filter(stage, row) {
            Says::Yes => true,
            Says::No => false,
            Says::Undecided => {
                *undecided += 1;
                false
            }
        });
    }
}

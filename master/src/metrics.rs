//! The master's counters: one table, shown in the log when the master ends.

forebay_base::metrics_table! {
    /// Counters of one master.
    pub(crate) struct MasterMetrics {
        requests: Counter = "forebay_master_requests_total", "calls served";
        journal_entries: Counter = "forebay_master_journal_entries_total", "entries proposed to the journal";
        journal_commands: Counter = "forebay_master_journal_commands_total", "commands in those entries";
        journal_syncs: Counter = "forebay_master_journal_syncs_total", "syncs of the journal's files";
        store_stats: Counter = "forebay_master_store_stats_total", "single keys asked of stores";
        store_list_pages: Counter = "forebay_master_store_list_pages_total", "listing pages asked of stores";
        tickets: Counter = "forebay_master_tickets_total", "read tickets signed";
    }
}

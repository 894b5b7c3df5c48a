"""The SQL that both twins share, one class per part of store.contract.Tables."""

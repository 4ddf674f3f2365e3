"""An artifact outside of the store: linked, copied, put in place of an earlier one."""

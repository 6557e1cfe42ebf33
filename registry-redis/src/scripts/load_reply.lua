-- The end of load.lua.
return { 'OK', revision, digest, lineage, last, members, values }

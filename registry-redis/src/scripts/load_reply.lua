-- The end of load.lua.
return { 'OK', revision, digest, lineage, more, members, values }

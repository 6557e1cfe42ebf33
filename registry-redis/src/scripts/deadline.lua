-- Part of the scripts that set deadlines. Saves meta if a lease now expires at `deadline` before all others,
-- if the clock is due to be saved, or if expired leases were deleted. O(1).
local RENEW_STEP = 10 -- ms after which these scripts save the clock
local function save_deadline(deadline)
  if deadline < tonumber(due) then
    due = num(deadline)
    save()
  elseif elapsed >= RENEW_STEP or not none_expired then
    save()
  end
end


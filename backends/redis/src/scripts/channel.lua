-- Where it is hinted at what is in a stream: all lanes of a queue have one channel.
local function channel_of(stream) return (string.gsub(stream, '}:l%d+:stream$', '}:stream')) end

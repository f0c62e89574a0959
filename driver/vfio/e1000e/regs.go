package e1000e

// Registers that only this controller has so (section 10.2), and their bits.
const (
	regCtrlExt      = 0x0018
	extNoAutoMask   = 1 << 27 // IAME: only the acknowledgement masks, as IAM says
	extClearPending = 1 << 31 // MSI-X PBA Clear
	regCause        = 0x00c0  // ICR: reading clears, and so does writing
	regSet          = 0x00d0  // IMS
	regClear        = 0x00d8  // IMC
	regAutoClear    = 0x00dc  // EIAC
	regAutoMask     = 0x00e0  // IAM
	regVectors      = 0x00e4  // IVAR
	regThrottle     = 0x00e8  // EITR, one for each vector
	causeQueue      = 1 << 20 // RxQ0, then RxQ1
	causeLink       = 1 << 2  // LSC
	causeOther      = 1 << 24 // of LSC and what else is about no queue
	vectorValid     = 1 << 3
	vectorOther     = 16            // shift of IVAR
	vectorBits      = 4             // of IVAR for each receive queue
	rx4096          = 3<<16 | 1<<25 // BSIZE, BSEX; without them 2,048
	regRxDesc       = 0x28          // RXDCTL, TXDCTL in the block
	descGranular    = 1 << 24       // GRAN: thresholds count descriptors
	descWrite1      = 1 << 16       // WTHRESH: write each back at once
	txDescBit22     = 1 << 22       // reserved, to be 1
	regFilter       = 0x5008        // RFCTL
	filterExt       = 1 << 15       // EXSTEN: extended descriptors
)

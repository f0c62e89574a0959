package e1000e

// Registers (section 10.2) and their bits.
const (
	regCtrl        = 0x0000
	ctrlMasterOff  = 1 << 2  // GIO Master Disable
	ctrlLinkUp     = 1 << 6  // SLU
	ctrlForceSpeed = 1 << 11 // FRCSPD
	ctrlForceFull  = 1 << 12 // FRCDPLX
	ctrlReset      = 1 << 26 // RST

	regStatus    = 0x0008
	statusLinkUp = 1 << 1  // LU
	statusMaster = 1 << 19 // GIO Master Enable Status
	statusGone   = 0xffffffff

	regEEPROM     = 0x0010 // EEC
	eepromLoaded  = 1 << 9 // Auto_RD
	regEEPROMRead = 0x0014 // EERD
	eepromStart   = 1 << 0 // START
	eepromDone    = 1 << 1 // DONE
	eepromAddress = 2      // shift
	eepromData    = 16     // shift

	regCtrlExt      = 0x0018
	extNoAutoMask   = 1 << 27 // IAME: only the acknowledgement masks, as IAM says
	extClearPending = 1 << 31 // MSI-X PBA Clear

	regCause     = 0x00c0  // ICR: reading clears, and so does writing
	regSet       = 0x00d0  // IMS
	regClear     = 0x00d8  // IMC
	regAutoClear = 0x00dc  // EIAC
	regAutoMask  = 0x00e0  // IAM
	regVectors   = 0x00e4  // IVAR
	regThrottle  = 0x00e8  // EITR, one for each vector
	causeTimer   = 1 << 7  // RXT0, without MSI-X
	causeQueue   = 1 << 20 // RxQ0, then RxQ1
	vectorValid  = 1 << 3
	vectorBits   = 4 // of IVAR for each receive queue

	regRxCtrl   = 0x0100        // RCTL
	rxEnable    = 1 << 1        // EN
	rxMulticast = 1 << 4        // MPE: all of it
	rxLong      = 1 << 5        // LPE: frames above 1,522 bytes
	rxBroadcast = 1 << 15       // BAM
	rx4096      = 3<<16 | 1<<25 // BSIZE, BSEX; without them 2,048
	rxStripFCS  = 1 << 26       // SECRC

	regTxCtrl  = 0x0400     // TCTL
	txEnable   = 1 << 1     // EN
	txPad      = 1 << 3     // PSP: short packets
	txCollide  = 0x0f << 4  // CT, recommended
	txDistance = 0x40 << 12 // COLD, for full duplex

	regRx        = 0x2800 // block of ring 0
	regTx        = 0x3800
	ringStride   = 0x100
	regRxDesc    = 0x28    // RXDCTL, TXDCTL in the block
	descGranular = 1 << 24 // GRAN: thresholds count descriptors
	descWrite1   = 1 << 16 // WTHRESH: write each back at once
	txDescBit22  = 1 << 22 // reserved, to be 1

	regMissed   = 0x4010  // MPC: packets without room, cleared when read
	regRxSum    = 0x5000  // RXCSUM
	sumIP       = 1 << 8  // IPOFLD
	sumL4       = 1 << 9  // TUOFLD
	sumHash     = 1 << 13 // PCSD: the hash, not the sum of a fragment
	regFilter   = 0x5008  // RFCTL
	filterExt   = 1 << 15 // EXSTEN: extended descriptors
	regMTA      = 0x5200  // multicast table
	mtaWords    = 128
	regAddrLow  = 0x5400 // RAL0
	regAddrHigh = 0x5404 // RAH0
	addrValid   = 1 << 31
	addrs       = 16
)
